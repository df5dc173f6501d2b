"""Updates of documents: ``{"$inc": {"stock": -1}}``, as MongoDB means them. Pure.

Begin with ``parse.py`` (what an update may say), then ``apply.py`` (its effect on a document) and
``accumulate.py`` (what of it becomes operations on counters and sets). ``log.deciding`` uses them.
"""
