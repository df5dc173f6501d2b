"""Upkeep of a file: verify, backup, restore, compact.

Each verb is loaded when it is called; begin with ``entgldb.launch.cli.main``.
"""
