"""Which collections merge field by field: ``_system_collections``, and two that always do."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.model import ALWAYS_MERGED, COLLECTIONS, check_collection

LWW: Final = "lww"
MERGE: Final = "merge"


def rule_document(collection: str, conflict: str) -> bytes:
    """The setting as it is stored. Raises InvalidError."""
    check_collection(collection)
    if conflict not in (LWW, MERGE):
        raise InvalidError(f"conflict {conflict!r:.40} is none of {LWW}, {MERGE}")
    return json.dumps({"Collection": collection, "Conflict": conflict}, separators=(",", ":")).encode()


def merging_collections(connection: sqlite3.Connection) -> set[str]:
    """Names of all collections that merge."""
    rows = connection.execute(
        "SELECT key, body FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL", (COLLECTIONS,)
    )
    return {key for key, body in rows if merges(key, body)} | ALWAYS_MERGED


def merges(collection: str, setting: str | None) -> bool:
    """Whether a collection with this document in ``_system_collections`` merges."""
    if collection in ALWAYS_MERGED:
        return True
    if setting is None:
        return False
    # whatever else a later release may write there, this one knows two rules
    return bool(json.loads(setting).get("Conflict") == MERGE)
