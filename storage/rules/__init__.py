"""Pure rules of the data: clock, header, vector, tree, row, merging, retention, reconciliation.

No SQLite, no clock, no randomness. Everybody may import it.
Begin with ``clock.py`` and ``header.py``. ``merging/`` is about concurrent changes, ``comparing/`` about rows
that travel, ``filtering/`` about documents that a filter finds.
"""
