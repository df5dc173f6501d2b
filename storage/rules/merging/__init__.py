"""How concurrent changes of one document become one: tree, row, changes, stored stamps.

Pure. Begin with ``tree.py`` (a value with stamps), then ``row.py`` (``absorb``, ``join``, ``without``).
"""
