"""The audit log: a chain of rows in the node's own file, which replicates nowhere.

``rows.py`` is pure: a row, its digest, whether rows are one chain. ``sparing.py``, pure too, leaves out what
others can cause without end. ``trail.py`` is the table and its writer, within the store's transactions;
``reading.py`` reads and proves it, also while no node runs.
"""
