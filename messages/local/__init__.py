"""Messages between the actors of one node. No network and no client can send these.

Begin with ``actors.py``.
"""
