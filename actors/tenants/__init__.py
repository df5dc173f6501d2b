"""Tenants of a cloud node: a router around each actor that touches data, so that behaviours know of none.

``router.py`` carries one behaviour a tenant within one actor; ``links.py`` is sync's, which leads each link
to its tenant by its token; ``keeper.py`` is store's, which keeps the catalogue. Hosts alone build them.
"""
