"""Whole files looked over and moved: check, backup, restore, rebuild of a damaged one.

Stands above ``store.py``, which it opens. Only ``launch`` imports it.
Begin with ``backup.py``.
"""
