"""Writes as clients ask for them, until it is certain what each does to the document that stands.

Begin with ``checked.py`` (limits and names), then ``decide.py`` (what depends on the documents).
"""
