"""The cluster: remote peers, nodes, forks.

Each verb is loaded when it is called; begin with ``entgldb.launch.cli.main``.
"""
