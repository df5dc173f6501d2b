"""A whole state as chunks: frozen by the giver, staged and merged by the taker.

Imports everything of ``storage`` below it. Begin with ``freeze.py``, then ``install.py``.
"""
