"""Judgements of the report of a node: findings, each with its remedy. Pure; pages and verbs show them.

``finding.py`` has the closed set of findings, ``reported.py`` makes them of the report of ``node``: begin
there.
"""
