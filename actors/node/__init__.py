"""The node actor: the other five, their restarts and their settings.

Pure. Only ``host`` imports it. Begin with ``behaviour.py``.
"""
