"""The talk of two nodes once both have said Hello: one pure session for LAN, gateway and cloud.

The six actors may import it. Begin with ``session.py``.
"""
