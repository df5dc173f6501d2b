"""Whole nodes in one process, on a virtual clock and a network that can be harmed.

The host of behaviours of ``tests/simulation``, which adds faults, oracles and promises. Begin with
``node.py``, then ``host.py`` and ``network.py``.
"""
