"""The only package that names Thespian: it carries behaviours in processes.

Lanes, wire, children, logs, and the checks that keep Thespian on loopback and authenticated.
Only ``launch`` imports it. Begin with ``actor.py``; ``docs/architecture.md`` tells what was measured.
"""
