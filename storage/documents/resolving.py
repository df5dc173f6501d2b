"""The writes for documents that a person brings back or decides about."""

from __future__ import annotations

import json
from typing import Any

from entgldb.messages.errors import ExistsError, InvalidError, NotFoundError
from entgldb.messages.model import Place, Version, check_collection, check_key
from entgldb.storage.documents.history import newest_live
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked
from entgldb.storage.log.rows import read_row
from entgldb.storage.rules.body import check_body
from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.merging.accumulating import begun_anew
from entgldb.storage.rules.merging.changes import plant, with_elements
from entgldb.storage.rules.merging.stored import Stored
from entgldb.storage.rules.merging.tree import render, settle, text_of, union

LOSER = "loser"
WINNER = "winner"


def resolving(batch: Batch, place: Place, version: Version, take: str, body: bytes | None) -> Checked:
    """The write that settles a conflict: ``take`` LOSER or WINNER, or (empty) ``body``.

    Raises NotFoundError where there is no such conflict, InvalidError.
    """
    collection, key = place
    check_collection(collection, system=True)
    lost = batch.connection.execute(
        "SELECT c.body, c.rule, c.expires FROM _entgldb_conflicts c"
        " JOIN _entgldb_origins o ON o.id = c.origin"
        " WHERE o.name = ? AND c.seq = ? AND c.collection = ? AND c.key = ?",
        (*version, collection, check_key(key)),
    ).fetchone()
    if lost is None:
        raise NotFoundError(
            f"{version.origin} {version.seq} is no conflict of {collection}/{key}",
            hint=f"entgldb conflicts {collection}",
        )
    row = read_row(batch, collection, key)
    document: dict[str, Any] | None
    if take == LOSER:
        whole = lost[1] == "lww"
        document = _with_loser(row, json.loads(lost[0]), whole=whole)
        if whole and collection not in batch.state.lives:
            # what was chosen lives as it would have, and not as what stands
            return _checked(place, document, (version,))._replace(moment=lost[2] or 0)
    elif take == WINNER:
        document = row.document() if row is not None and row.shown else None
    elif take or body is None:
        raise InvalidError("neither loser nor winner nor a document was chosen")
    else:
        return Checked(place, body, check_body(body), (version,), keeps_moment=True)
    return _checked(place, document, (version,))


def undeleting(batch: Batch, collection: str, key: str) -> Checked:
    """The write that brings a deleted document back. Raises NotFoundError, ExistsError."""
    check_collection(collection)
    row = read_row(batch, collection, check_key(key))
    if row is not None and row.shown:
        raise ExistsError(f"{collection}/{key} is not deleted", hint=f"entgldb get {collection} {key}")
    if row is not None and any(item[0] == "." for item in row.tree):
        # a document that merges keeps its fields as long as its tombstone is kept
        return _checked((collection, key), row.document(), ())
    document, endings = newest_live(batch.connection, collection, key)
    if document is None:
        raise NotFoundError(f"{collection}/{key} cannot be brought back: {_why(row, endings)}")
    return _checked((collection, key), document, ())


def _why(row: Stored | None, endings: list[Any]) -> str:
    if row is None:
        return "this node knows no such document, nor that there was one"
    if not endings:
        return "its log has never had a live version"
    names = ", ".join(f"{version.origin} {version.seq} ({reason})" for version, reason in endings[:3])
    return f"the log no longer has what came before the delete: {names}"


def _with_loser(row: Stored | None, lost: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    if whole:
        return lost
    tree = {} if row is None else row.tree
    # what a person chose shows, though its element was removed
    change = plant(with_elements(begun_anew(lost), tree), (HLC_MAX, "~"))
    return render(settle(union(tree, change)))


def _checked(place: Place, document: dict[str, Any] | None, resolves: tuple[Version, ...]) -> Checked:
    text = None if document is None else text_of(document)
    body = None if text is None else text.encode()
    return Checked(place, body, text, resolves, keeps_moment=bool(resolves))
