"""Forked logs: two different entries that one origin made under one number. Both proofs are kept."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from entgldb.messages.model import Origin
from entgldb.messages.schema import Json


class Fork(NamedTuple):
    """One proof: two headers, both made under one origin and number (``ours`` is empty where unknown)."""

    origin: Origin
    seq: int
    ours: bytes
    theirs: bytes
    at_ms: int
    """When it was found here."""
    open: bool
    """Whether nothing of the origin is taken yet."""


def forks(connection: sqlite3.Connection) -> list[Fork]:
    """All proofs, by the time they were found."""
    rows = connection.execute(
        "SELECT o.name, f.seq, f.ours, f.theirs, f.at_ms, o.quarantined FROM _entgldb_forks f"
        " JOIN _entgldb_origins o ON o.id = f.origin ORDER BY f.at_ms, f.id"
    )
    return [
        Fork(origin, seq, ours, theirs, at_ms, open=is_open == 1)
        for origin, seq, ours, theirs, at_ms, is_open in rows.fetchall()
    ]


def alarms(connection: sqlite3.Connection) -> list[Json]:
    """One for each origin that waits for a decision, in the form of ``actors.alarms``."""
    rows = connection.execute(
        "SELECT o.name, min(f.seq), min(f.at_ms) FROM _entgldb_forks f JOIN _entgldb_origins o"
        " ON o.id = f.origin WHERE o.quarantined = 1 GROUP BY o.id, o.name ORDER BY min(f.at_ms), o.name"
    )
    return [
        {
            "code": "fork",
            "subject": origin,
            "text": f"{origin} has written two different entries {seq}: nothing more of it is taken, and no "
            "snapshot that has more of it, until "
            f"`entgldb heal-origin {origin}` decides",
            "since_ms": since,
        }
        for origin, seq, since in rows.fetchall()
    ]
