"""The paths under ``/v1``: documents, feeds, streams, and an administrator's work.

A class a file, each over one database, with its routes. ``app.py`` puts them together and ``openapi.py``
describes them. Begin with ``documents.py``: it is the part that most people need.
"""
