"""Clients: the Python API. Reads the file in its own process, writes by the node's socket.

Imports ``storage`` and ``messages``, never ``actors``. ``launch`` and ``entgldb`` itself import it.
Begin with ``database.py``, then ``collection.py``; ``aio/`` is the same for asyncio, and
``verbs/writing.py`` holds the verbs that write for both.
"""
