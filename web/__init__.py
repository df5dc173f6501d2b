"""HTTP for a node: documents, feeds, health (extra ``[http]``). One process, a client of the node.

Imports ``client`` and ``messages``, never ``actors`` or ``storage``; ``launch`` starts it. The node does not
notice when it dies. Begin with ``app.py``, then ``verbs`` has the paths and ``door`` who may ask.
"""
