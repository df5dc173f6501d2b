"""Documents: put, get, find, import, export, changes, conflicts, history, why.

Each verb is loaded when it is called; begin with ``entgldb.launch.cli.main``.
"""
