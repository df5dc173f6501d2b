"""Versions that lost to concurrent ones, beside what won; and how long the documents of a collection live."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final, NamedTuple

from entgldb.messages.model import COLLECTIONS, Version, check_collection
from entgldb.messages.schema import Json
from entgldb.storage.rules.clock import ms_of

CONFLICT_ROWS: Final = (
    "SELECT c.collection, c.key, c.hlc, c.id, o.name, c.seq, c.body, c.rule, w.name, d.seq, d.hlc, d.body"
    " FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
    " LEFT JOIN _entgldb_documents d ON d.collection = c.collection AND d.key = c.key"
    " LEFT JOIN _entgldb_origins w ON w.id = d.origin"
    " WHERE (c.collection, c.key, c.hlc, c.id) > (?, ?, ?, ?)"
    " ORDER BY c.collection, c.key, c.hlc, c.id LIMIT ?"
)


class Conflict(NamedTuple):
    """A version that lost to a concurrent one and is kept for a person to look at."""

    collection: str
    key: str
    version: Version
    document: dict[str, Json]
    """The loser's content: the document, or under the rule ``merge`` the fields that it changed."""
    at_ms: int
    rule: str = "lww"
    """``lww``: of whole documents the later is kept. ``merge``: of each field the later is kept."""
    winner: Version | None = None
    """The newest version of the document; None where its tombstone has been collected."""
    winner_document: dict[str, Json] | None = None
    """The document as it is now; None where it is deleted."""
    winner_at_ms: int = 0


def conflict(row: tuple[Any, ...]) -> Conflict:
    """A row of CONFLICT_ROWS."""
    collection, key, hlc, _, origin, seq, text, rule, winner, winner_seq, winner_hlc, body = row
    lost = json.loads(text)
    if rule != "lww":
        # only collections that merge need the rules of merging
        from entgldb.storage.rules.merging.changes import plant
        from entgldb.storage.rules.merging.tree import NOTHING_YET, render

        lost = render(plant(lost, NOTHING_YET), partial=True)
    return Conflict(
        collection,
        key,
        Version(origin, seq),
        lost,
        ms_of(hlc),
        rule,
        None if winner is None else Version(winner, winner_seq),
        None if body is None else json.loads(body),
        0 if winner_hlc is None else ms_of(winner_hlc),
    )


def life_ms(connection: sqlite3.Connection, collection: str) -> int | None:
    """Milliseconds for which what is written to a collection lives; None: for good. Raises InvalidError."""
    from entgldb.storage.rules.merging.collection_rule import life_of

    check_collection(collection, system=True)
    row = connection.execute(
        "SELECT body FROM _entgldb_documents WHERE collection = ? AND key = ?", (COLLECTIONS, collection)
    ).fetchone()
    return None if row is None else life_of(row[0])
