"""Whole nodes, the real behaviours on real SQLite, in one thread on a virtual clock and a faulty network."""
