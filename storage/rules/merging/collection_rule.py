"""How a collection settles concurrent writes: documents of ``_system_collections``."""

from __future__ import annotations

import json
from typing import Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.model import ALWAYS_MERGED, check_collection

LWW: Final = "lww"
BY_FIELD: Final = "merge"


def rule_document(collection: str, conflict: str) -> bytes:
    """The setting as it is stored. Raises InvalidError."""
    check_collection(collection)
    if conflict not in (LWW, BY_FIELD):
        raise InvalidError(f"conflict {conflict!r:.40} is none of {LWW}, {BY_FIELD}")
    return json.dumps({"Collection": collection, "Conflict": conflict}, separators=(",", ":")).encode()


def merges(collection: str, setting: str | None) -> bool:
    """Whether a collection with this document in ``_system_collections`` merges."""
    if collection in ALWAYS_MERGED:
        return True
    # a later release may write other rules there: this one knows two
    return setting is not None and json.loads(setting).get("Conflict") == BY_FIELD
