"""Indexes as pure rules: their definitions, and the entries that a document has in one.

Imports ``filtering``, ``field_path`` and ``messages``. The tables of ``storage.indexes`` follow them.
Begin with ``definition.py``.
"""
