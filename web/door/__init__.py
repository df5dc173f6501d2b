"""The way in: where a server listens and who may ask, before any handler.

Begin with ``guard.py``. ``place.py`` and ``tokens.py`` load no HTTP library: the launcher reads them, too.
"""
