"""The command line: one module a group of verbs, loaded when its verb is called.

Begin with ``main.py``.
"""
