"""Storage: one SQLite file a node.

Imports ``messages``. ``actors``, ``client`` and ``launch`` may import it; behaviours only its ``rules`` and
what ``actors.ports`` hands them.
Begin with ``rules/header.py`` (an entry of the log), then ``store.py`` (the only writer).
"""
