"""One page that shows a cluster to a person, and lets them act. Served at ``/`` by the HTTP server.

``page.py`` has the shell and the fragments that fill it; ``mesh.py`` and ``attention.py`` make a picture and
a list of troubles of a node's status; ``pulse.py`` looks at the node and tells the open pages. Each act
of a person goes to ``/v1``, as any program's request does: nothing can be done here alone.
"""
