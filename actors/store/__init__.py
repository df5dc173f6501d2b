"""The store actor: the only writer of the file, and the door for clients.

``behaviour.py`` commits all that has arrived in one transaction; ``client_socket.py`` moves bytes.
Only ``host`` imports it. Begin with ``behaviour.py``.
"""
