"""How a collection settles concurrent writes, and how long its documents live: ``_system_collections``."""

from __future__ import annotations

import json
from typing import Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import LIFE_MS_MAX
from entgldb.messages.model import ALWAYS_MERGED, check_collection

LWW: Final = "lww"
BY_FIELD: Final = "merge"
_LIFE: Final = "ExpireAfterMs"


def rule_document(collection: str, conflict: str, before: str | bytes | None = None) -> bytes:
    """The setting as it is stored, over the one ``before``. Raises InvalidError."""
    check_collection(collection)
    if conflict not in (LWW, BY_FIELD):
        raise InvalidError(f"conflict {conflict!r:.40} is none of {LWW}, {BY_FIELD}")
    return _document(collection, before, {"Conflict": conflict})


def life_document(collection: str, life_ms: int, before: str | bytes | None = None) -> bytes:
    """The setting with which own writes live for ``life_ms``, or (0) for good. Raises InvalidError."""
    check_collection(collection)
    check_life(life_ms)
    made = json.loads(_document(collection, before, {_LIFE: life_ms}))
    if not life_ms:
        del made[_LIFE]
    return _document(collection, json.dumps(made), {})


def check_life(life_ms: int) -> None:
    """Raises InvalidError for what is no length of a life."""
    if not 0 <= life_ms <= LIFE_MS_MAX:
        raise InvalidError(
            f"expire_after is {life_ms} ms", hint=f"0.001 to {LIFE_MS_MAX // 1000} seconds are possible"
        )


def _document(collection: str, before: str | bytes | None, change: dict[str, str | int]) -> bytes:
    # a later release may have written more there
    made = {"Collection": collection, "Conflict": LWW, **json.loads(before or b"{}"), **change}
    return json.dumps(made, separators=(",", ":")).encode()


def merges(collection: str, setting: str | None) -> bool:
    """Whether a collection with this document in ``_system_collections`` merges."""
    if collection in ALWAYS_MERGED:
        return True
    # a later release may write other rules there: this one knows two
    return setting is not None and json.loads(setting).get("Conflict") == BY_FIELD


def life_of(setting: str | None) -> int | None:
    """Milliseconds for which a write to a collection with this document lives; None: for good."""
    life = None if setting is None else json.loads(setting).get(_LIFE)
    return life if type(life) is int and 0 < life <= LIFE_MS_MAX else None
