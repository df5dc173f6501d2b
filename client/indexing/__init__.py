"""Indexes as the Python API makes, lists and drops them.

Imports ``messages`` and ``storage``; the collections of both kinds of API import it.
Begin with ``indexes.py``.
"""
