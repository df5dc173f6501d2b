"""EntglDB: an embeddable, offline-first, peer-to-peer document database.

The public names are loaded on first use (PEP 562), so that ``import entgldb.messages``
in a small process does not pay for TLS, SQLite or the actor system.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from entgldb._version import VERSION as __version__

if TYPE_CHECKING:
    from entgldb.client.batch import Batch
    from entgldb.client.collection import Collection
    from entgldb.client.database import Change, Conflict, Database, Document, connect
    from entgldb.client.spread import Spread, SpreadError
    from entgldb.launch.embedded.opening import open as open  # noqa: A004 -- its public name
    from entgldb.launch.node.handle import Node, launch
    from entgldb.messages.errors import (
        ConfigError,
        CorruptError,
        EntglError,
        ExistsError,
        InvalidError,
        NoAnswerError,
        NoNodeError,
        NotAllowedError,
        NotFoundError,
        ProtocolError,
        SecretError,
        TokenExpired,
        TooLargeError,
        UnsupportedError,
        VersionError,
    )

__all__ = [
    "Batch",
    "Change",
    "Collection",
    "ConfigError",
    "Conflict",
    "CorruptError",
    "Database",
    "Document",
    "EntglError",
    "ExistsError",
    "InvalidError",
    "NoAnswerError",
    "NoNodeError",
    "Node",
    "NotAllowedError",
    "NotFoundError",
    "ProtocolError",
    "SecretError",
    "Spread",
    "SpreadError",
    "TokenExpired",
    "TooLargeError",
    "UnsupportedError",
    "VersionError",
    "__version__",
    "connect",
    "launch",
]
# `open` is public, too, and not in __all__: `import *` shall hide no builtin
_HOMES = dict.fromkeys(__all__, "entgldb.messages.errors") | {
    "Batch": "entgldb.client.batch",
    "Change": "entgldb.client.database",
    "Collection": "entgldb.client.collection",
    "Conflict": "entgldb.client.database",
    "Database": "entgldb.client.database",
    "Document": "entgldb.client.database",
    "connect": "entgldb.client.database",
    "Node": "entgldb.launch.node.handle",
    "Spread": "entgldb.client.spread",
    "SpreadError": "entgldb.client.spread",
    "open": "entgldb.launch.embedded.opening",
}
"""The module of each public name: of an error, unless it says another."""


def __getattr__(name: str) -> Any:
    if name in ("aio", "launch"):
        # modules; `launch` is the package itself, which can be called: its name is taken as soon as anything
        # in it is imported
        return import_module(f"entgldb.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'entgldb' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
