"""The oplog actor: keeps history: retention, snapshots, verification.

Only ``host`` imports it. Begin with ``behaviour.py``.
"""
