"""Conflict rows beyond their cap: which of them go is the same on every node."""

from __future__ import annotations

import sqlite3

from entgldb.messages.limits import CONFLICTS_KEPT_MAX
from entgldb.storage.file.state import State


def evict(connection: sqlite3.Connection, state: State) -> None:
    """Drop the oldest by (hlc, name of the origin, seq): no number that only this file knows decides."""
    while state.conflicts > CONFLICTS_KEPT_MAX:
        state.conflicts -= connection.execute(
            "DELETE FROM _entgldb_conflicts WHERE id = (SELECT c.id FROM _entgldb_conflicts c"
            " JOIN _entgldb_origins o ON o.id = c.origin"
            " WHERE c.hlc = (SELECT min(hlc) FROM _entgldb_conflicts) ORDER BY o.name, c.seq LIMIT 1)"
        ).rowcount
