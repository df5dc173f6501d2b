"""Indexes as tables beside the documents, kept by triggers and filled in steps; the words of documents, too.

Imports ``file`` and ``rules``. The writer makes, fills and drops them; readers find documents by them.
Begin with ``tables.py``.
"""
