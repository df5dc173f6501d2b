"""One node: init, start, stop, status, ask, tell, held, quarantine, clock, audit.

Each verb is loaded when it is called; begin with ``entgldb.launch.cli.main``.
"""
