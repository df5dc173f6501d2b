"""Rows between nodes: fingerprints of ranges, copies, snapshot chunks.

Pure. Begin with ``reconcile.py`` (Meyer: Range-Based Set Reconciliation, 2022).
"""
