"""Documents for readers: by key and by filter, the change feed, history, conflicts, what has expired.

Imports ``log``, ``file`` and ``rules``. Clients read through it in their own process.
Begin with ``query.py``; ``finding.py`` puts filters and orders to the file as SQL.
"""
