"""The asyncio API: ``async with entgldb.aio.connect("DIR") as db: await db["users"].put(...)``."""

from __future__ import annotations

from entgldb.client.aio.batch import Batch
from entgldb.client.aio.database import Change, Collection, Conflict, Database, Document, Peers, connect

__all__ = ["Batch", "Change", "Collection", "Conflict", "Database", "Document", "Peers", "connect"]
