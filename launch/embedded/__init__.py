"""A store in the caller's own process: ``entgldb.open`` and ``entgldb.aio.open``.

The behaviours of the actors ``store`` and ``oplog`` run here in the threads that ask them, without a node.
``entgldb`` imports it, and ``launch.bench``. Begin with ``opening.py``.
"""
