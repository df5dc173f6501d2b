"""This node as a writer, its identity, key and signatures; the authors of all logs; the keys of the cluster.

Imports ``file`` and ``rules``. ``log`` and everything above it may import it.
Begin with ``signing.py``: when a log is signed.
"""
