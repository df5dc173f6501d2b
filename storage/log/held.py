"""The held entries of a file, as people look at them."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Origin
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode


class Waiting(NamedTuple):
    """The held entries of one origin, whose clock runs ahead."""

    origin: Origin
    entries: int
    first_due_ms: int
    """Wall clock at which its first entry is applied by itself."""


def list_held(connection: sqlite3.Connection) -> list[Waiting]:
    """The held entries, by origin."""
    rows = connection.execute(
        "SELECT o.name, count(*), (SELECT f.header FROM _entgldb_held f WHERE f.origin = h.origin"
        " ORDER BY f.seq LIMIT 1) FROM _entgldb_held h JOIN _entgldb_origins o ON o.id = h.origin"
        " GROUP BY h.origin ORDER BY o.name"
    ).fetchall()
    return [Waiting(origin, count, ms_of(decode(raw).hlc) - DRIFT_MS_MAX) for origin, count, raw in rows]
