"""The file itself: opening, schema, checks, and the state that each transaction carries.

Imports ``rules``. Every other package of ``storage`` may import it.
Begin with ``open.py``: the order in which a file is made outlives a power cut.
"""
