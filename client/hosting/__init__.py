"""The tenants of a cloud node, for those who host them: ``tenants.py`` is ``db.tenants``.

``client/database.py`` alone imports it, and the verbs for it.
"""
