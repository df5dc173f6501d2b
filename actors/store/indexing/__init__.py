"""Indexes in the store actor: the requests about them, and when the next step of building is taken.

Imports ``ports`` and ``messages``; the store's behaviour imports it.
Begin with ``requests.py``.
"""
