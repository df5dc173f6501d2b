"""This node as a writer, its identity and key, the signatures on its log, and the authors of all logs.

Imports ``file`` and ``rules``. ``log`` and everything above it may import it.
Begin with ``signing.py``: when a log is signed.
"""
