"""To try and to measure: cluster, demo, bench, check-token.

Each verb is loaded when it is called; begin with ``entgldb.launch.cli.main``.
"""
