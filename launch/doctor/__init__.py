"""Examining a node, running or not. The verbs ``doctor`` and ``diag`` import it; begin with ``examine.py``.

The judgements themselves are in ``client/health``; here is what has to touch files, sockets and clocks.
"""
