"""The gateway actor: cloud links, while this node is elected.

Only ``host`` imports it. Begin with ``behaviour.py``: ``on_reconfigure`` compares wanted with open links.
"""
