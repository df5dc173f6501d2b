"""The tenants of a cloud node on its disk.

``catalogue.py`` is a table of the node's own file, ``files.py`` the folder ``tenants`` with a directory for
each, like that of a node. The store actor's router (``actors/tenants``) alone writes there.
"""
