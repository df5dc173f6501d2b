"""Actors: six behaviours, one package each, and the hosts that carry them.

Imports ``storage`` and ``messages``; only ``launch`` may import it.
Begin with ``behaviour.py`` (the one idea), then ``ports.py`` (all that behaviours are handed). Each actor's
behaviour is ``behaviour.py`` in its package. ``tls`` and ``side_loop.py`` move bytes.
"""
