"""Documents as lines and rows: JSON Lines and CSV, both ways, each fault with its line.

Begin with ``lines.py``.
"""
