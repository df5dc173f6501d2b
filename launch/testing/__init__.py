"""Clusters of whole nodes in one process, on a virtual clock and a network that can be harmed.

The tests of applications use it by ``entgldb.testing`` and the plugin for pytest; ``tests/simulation`` adds
faults, oracles and promises. Begin with ``cluster.py``; ``host.py`` and ``network.py`` are below it.
"""
