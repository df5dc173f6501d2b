"""Gates of the store: the disk and the clock, by which writes are refused, and links that are paused.

``behaviour.py`` of the store asks them, and nobody else; begin with ``disk_gate.py``.
"""
