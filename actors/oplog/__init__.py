"""The oplog actor: verifies what comes in, and keeps history: retention, snapshots, verification.

Only ``host`` imports it. Begin with ``behaviour.py``.
"""
