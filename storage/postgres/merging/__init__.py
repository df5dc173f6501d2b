"""Merging a snapshot into a tenant on PostgreSQL: the staged rows, and the documents as they are to be.

Begin with ``sides.py``.
"""
