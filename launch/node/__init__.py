"""How a node starts: its directory, its configuration, its launcher.

Begin with ``launcher.py``; ``init.py`` makes the directory.
"""
