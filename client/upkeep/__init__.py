"""An operator's questions: why a document is where it is, forked logs, the audit log. For APIs and verbs.

Begin with ``why.py``.
"""
