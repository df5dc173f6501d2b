"""When and from whom rows of the log came: one small row a batch, not one an entry."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

KEPT_MAX: Final = 10_000
"""Rows kept; the oldest go first."""
JOINED_MS: Final = 1_000
"""Batches of one peer that follow each other within this time are one row."""


class Arrival(NamedTuple):
    """Rows that came together."""

    peer: str
    """Node id of the peer they came from."""
    at_ms: int
    """This node's clock."""


def note_arrival(connection: sqlite3.Connection, first: int, last: int, peer: str, now_ms: int) -> None:
    """Rows ``first`` to ``last`` of the log came from ``peer``."""
    joined = connection.execute(
        "UPDATE _entgldb_arrivals SET last_lsn = ? WHERE first_lsn ="
        " (SELECT max(first_lsn) FROM _entgldb_arrivals) AND peer = ? AND at_ms BETWEEN ? AND ?",
        (last, peer, now_ms - JOINED_MS, now_ms),
    ).rowcount
    if not joined:
        connection.execute(
            "INSERT OR REPLACE INTO _entgldb_arrivals VALUES (?, ?, ?, ?)", (first, last, peer, now_ms)
        )


def tidy(connection: sqlite3.Connection) -> None:
    """Forget the oldest beyond KEPT_MAX."""
    connection.execute(
        "DELETE FROM _entgldb_arrivals WHERE first_lsn <="
        " (SELECT first_lsn FROM _entgldb_arrivals ORDER BY first_lsn DESC LIMIT 1 OFFSET ?)",
        (KEPT_MAX,),
    )


def of(connection: sqlite3.Connection, lsn: int) -> Arrival | None:
    """The arrival of one row, None where it is not known any more."""
    row = connection.execute(
        "SELECT peer, at_ms FROM _entgldb_arrivals WHERE first_lsn <= ? AND last_lsn >= ?"
        " ORDER BY first_lsn DESC LIMIT 1",
        (lsn, lsn),
    ).fetchone()
    return None if row is None else Arrival(*row)
