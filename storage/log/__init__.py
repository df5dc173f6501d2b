"""The log of entries and the document rows that follow from it.

``append.py`` and ``apply.py`` write entry and row in one transaction; ``read.py`` serves sessions.
Imports ``file`` and ``rules``. Begin with ``apply.py``.
"""
