"""Clusters to try things on: nodes, a cloud and an authority on one machine.

Begin with ``cluster.py``.
"""
