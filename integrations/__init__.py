"""Bridges to other systems: webhooks, MQTT, off-site backups. Each is one process, a client of the node.

Imports ``client`` and ``messages``, never ``actors``; ``launch`` reads their configuration and starts them.
The node does not notice when one dies; started again, it goes on at the place it kept (``place.py``).
"""
