"""EntglDB: an embeddable, offline-first, peer-to-peer document database.

The public names are loaded on first use (PEP 562), so that ``import entgldb.messages``
in a small process does not pay for TLS, SQLite or the actor system.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from entgldb._version import VERSION as __version__

if TYPE_CHECKING:
    from entgldb.launch.client import Change, Collection, Database, connect
    from entgldb.launch.node import Node, launch
    from entgldb.messages.errors import EntglError, TokenExpired

_HOMES = {
    "Change": "entgldb.launch.client",
    "Collection": "entgldb.launch.client",
    "Database": "entgldb.launch.client",
    "connect": "entgldb.launch.client",
    "Node": "entgldb.launch.node",
    "EntglError": "entgldb.messages.errors",
    "TokenExpired": "entgldb.messages.errors",
}

__all__ = [
    "Change",
    "Collection",
    "Database",
    "EntglError",
    "Node",
    "TokenExpired",
    "__version__",
    "connect",
    "launch",
]


def __getattr__(name: str) -> Any:
    if name == "launch":
        # the package itself, which can be called: its name is taken as soon as anything in it is imported
        return import_module("entgldb.launch")
    if name not in _HOMES:
        raise AttributeError(f"module 'entgldb' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
