"""The election actor: who is gateway, and since which epoch (Bully, Garcia-Molina 1982).

Pure. Only ``host`` imports it. Begin with ``behaviour.py``.
"""
