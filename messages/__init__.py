"""Messages: all that is said between actors, nodes and clients, and how it becomes bytes.

Pure; imports nothing of ours. Everybody may import it.
Begin with ``schema.py`` (a message is a frozen dataclass with a tag), then ``wire.py`` (between nodes),
``client.py`` (from clients) and ``local/`` (between the actors of one node).
"""
