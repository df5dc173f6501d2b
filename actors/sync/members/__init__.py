"""The members of the cluster, as sync sees them: which get a link, whose rows are kept, which are missed.

Imported by ``actors/sync/behaviour.py`` alone. Begin with ``admittance.py``.
"""
