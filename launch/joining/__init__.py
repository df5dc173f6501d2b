"""How a machine joins a cluster by a short code, without a copied file.

``code`` is the code itself and ``exchange`` what the two sides say to each other, both pure; ``doors`` has
the sockets and clocks, ``newcomer`` the new side as a whole. Begin with ``exchange``. Only the command
line imports it.
"""
