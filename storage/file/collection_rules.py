"""Which collections of a file merge field by field."""

from __future__ import annotations

import sqlite3

from entgldb.messages.model import ALWAYS_MERGED, COLLECTIONS
from entgldb.storage.rules.merging.collection_rule import merges


def merging_collections(connection: sqlite3.Connection) -> set[str]:
    """Names of all collections that merge."""
    rows = connection.execute(
        "SELECT key, body FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL", (COLLECTIONS,)
    )
    return {key for key, body in rows if merges(key, body)} | ALWAYS_MERGED
