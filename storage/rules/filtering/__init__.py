"""Filters, orders and projections of documents, as pure rules: the parser and the plain Python matcher.

Imports ``field_path`` and ``messages``. Queries, feeds and conditional writes ask it alike.
Begin with ``parser.py``; docs/queries.md has the one table of what matches what.
"""
