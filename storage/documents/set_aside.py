"""The entries that wait for somebody's decision, read from the file: those in quarantine, those held."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from entgldb.messages.limits import DRIFT_MS_MAX, PAGE_ROWS_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode

SHOWN_MAX: Final = 10_000
"""Rows given out in one go."""


class Unfit(NamedTuple):
    """An entry that cannot be applied here."""

    collection: str
    key: str
    version: Version
    reason: str
    """A stable word: ``invalid``, ``too-large``, ``internal``."""
    text: str
    at_ms: int
    """When it was set aside."""


class Waiting(NamedTuple):
    """The held entries of one origin, whose clock runs ahead."""

    origin: Origin
    entries: int
    first_due_ms: int
    """Wall clock at which its first entry is applied by itself."""


def unfit(connection: sqlite3.Connection) -> list[Unfit]:
    """All entries in quarantine, by collection and key; each page is one short read."""
    found: list[Unfit] = []
    last = 0
    while len(found) < SHOWN_MAX:
        page = connection.execute(
            "SELECT q.id, q.collection, q.key, o.name, q.seq, q.reason, q.text, q.at_ms"
            " FROM _entgldb_quarantine q JOIN _entgldb_origins o ON o.id = q.origin"
            " WHERE q.id > ? ORDER BY q.id LIMIT ?",
            (last, PAGE_ROWS_MAX),
        ).fetchall()
        if not page:
            break
        last = page[-1][0]
        found += [
            Unfit(name, key, Version(origin, seq), reason, text, at_ms)
            for _, name, key, origin, seq, reason, text, at_ms in page
        ]
    return sorted(found)


def held(connection: sqlite3.Connection) -> list[Waiting]:
    """The held entries, by origin."""
    rows = connection.execute(
        "SELECT o.name, count(*), (SELECT f.header FROM _entgldb_held f WHERE f.origin = h.origin"
        " ORDER BY f.seq LIMIT 1) FROM _entgldb_held h JOIN _entgldb_origins o ON o.id = h.origin"
        " GROUP BY h.origin ORDER BY o.name"
    ).fetchall()
    return [Waiting(origin, count, ms_of(decode(raw).hlc) - DRIFT_MS_MAX) for origin, count, raw in rows]
