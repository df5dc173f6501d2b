"""The asyncio API: ``async with entgldb.aio.connect("DIR") as db: await db["users"].put(...)``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from entgldb.client.aio.batch import Batch
from entgldb.client.aio.database import Change, Collection, Conflict, Database, Document, Peers, connect

if TYPE_CHECKING:
    from entgldb.launch.embedded.aio import open as open  # noqa: A004 -- its public name

# `open` is public, too, and not in __all__: `import *` shall hide no builtin
__all__ = ["Batch", "Change", "Collection", "Conflict", "Database", "Document", "Peers", "connect"]


def __getattr__(name: str) -> Any:
    # whoever connects to a node loads no actor
    if name == "open":
        return import_module("entgldb.launch.embedded.aio").open
    raise AttributeError(f"module 'entgldb.aio' has no attribute {name!r}")
