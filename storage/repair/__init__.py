"""Logs and rows set right inside the file: new incarnations, forks, rewritten tails, mended rows.

Imports everything of ``storage`` below it. ``store.py`` and ``recovery`` import it.
Begin with ``incarnations.py``: why a node writes as somebody new.
"""
