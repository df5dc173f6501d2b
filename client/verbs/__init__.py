"""The verbs of a collection, once for both APIs: each waits through the hands of the API that calls it.

Imports ``client``'s other modules and ``messages``; ``client`` alone imports it. Begin with ``writing.py``.
"""
