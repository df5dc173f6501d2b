"""The sync actor: LAN links, discovery, dialling; in the cloud role the token-checked listener.

Only ``host`` imports it. Begin with ``behaviour.py``.
"""
