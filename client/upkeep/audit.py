"""The audit log of a node, as its clients read it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entgldb.client.door import Door


def audit(database: Door, rows_max: int = 100) -> list[dict[str, Any]]:
    """The newest rows of the node's audit log, the newest first: who did what to whom, and how it went."""
    from entgldb.storage.audit.reading import newest

    def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        return [row._asdict() for row in newest(connection, rows_max)]

    return database.documents.put_to(read)
