"""The Python API for asyncio: many writes in flight on one connection.

Begin with ``database.py``, which mirrors ``entgldb.client.database``.
"""
