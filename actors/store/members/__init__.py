"""The store's work for the list of members: who belongs, who was retired, who was expelled.

The behaviour of the store imports it. Begin with ``nodes.py``.
"""
