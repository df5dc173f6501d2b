"""Temporary tables by name: whoever needs one gets it empty, whatever another use of it has left behind."""

from __future__ import annotations

import sqlite3
from typing import Final

_COLUMNS: Final = {
    "touched": "id INTEGER PRIMARY KEY, collection, key, UNIQUE (collection, key)",
    "logged": "place INTEGER, lsn INTEGER, PRIMARY KEY (place, lsn)",
    "removed": "place INTEGER, hlc INTEGER, origin, PRIMARY KEY (place, hlc, origin)",
    "lasts": "id INTEGER PRIMARY KEY, collection, key, origin, seq, UNIQUE (collection, key)",
    "dropped": "id INTEGER PRIMARY KEY, collection, key, body, UNIQUE (collection, key)",
}


def empty(connection: sqlite3.Connection, name: str) -> None:
    """Make ``temp.NAME`` anew, without rows."""
    connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
    connection.execute(f"CREATE TEMP TABLE {name} ({_COLUMNS[name]})")
