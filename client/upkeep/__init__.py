"""An operator's questions: why a document is where it is, and forked logs. For both APIs and the verbs.

Begin with ``why.py``.
"""
