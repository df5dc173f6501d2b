"""Temporary tables by name: each caller gets its table empty, whatever another use of it has left behind."""

from __future__ import annotations

import sqlite3
from typing import Final

TABLES: Final = {
    # healing and reissuing; the entries that a damaged file had name versions, too
    "touched": "(id INTEGER PRIMARY KEY, collection TEXT, key TEXT, UNIQUE (collection, key))",
    "logged": "(place INTEGER, lsn INTEGER, PRIMARY KEY (place, lsn)) WITHOUT ROWID",
    "removed": "(place INTEGER, hlc INTEGER, origin TEXT, PRIMARY KEY (place, hlc, origin)) WITHOUT ROWID",
    "replaced": "(place INTEGER, origin TEXT, seq INTEGER, PRIMARY KEY (place, origin, seq)) WITHOUT ROWID",
    "named": "(collection TEXT, key TEXT, origin TEXT, seq INTEGER,"
    " PRIMARY KEY (collection, key, origin, seq)) WITHOUT ROWID",
    "cuts": "(origin INTEGER PRIMARY KEY, first INTEGER)",
    "dropped": "(id INTEGER PRIMARY KEY, collection TEXT, key TEXT, body TEXT, expires INTEGER,"
    " reason TEXT, UNIQUE (collection, key))",
    "before": "(id INTEGER PRIMARY KEY, collection TEXT, key TEXT, origin TEXT, seq INTEGER, hlc INTEGER,"
    " expires INTEGER, body TEXT, stamps BLOB, UNIQUE (collection, key))",
    "restamped": "(hlc INTEGER PRIMARY KEY, now INTEGER)",
    # the entries that a damaged file had: they stay from step to step, so nothing else uses these names
    "lasts": "(hlc INTEGER, origin TEXT, seq INTEGER, collection TEXT, key TEXT,"
    " PRIMARY KEY (hlc, origin, seq), UNIQUE (collection, key)) WITHOUT ROWID",
    "mine": "(collection TEXT, key TEXT, origin TEXT, seq INTEGER,"
    " PRIMARY KEY (collection, key, origin, seq)) WITHOUT ROWID",
    "saw": "(collection TEXT, key TEXT, origin TEXT, seq INTEGER,"
    " PRIMARY KEY (collection, key, origin, seq)) WITHOUT ROWID",
    # merging a snapshot
    "origins": "(number INTEGER PRIMARY KEY, name TEXT, ours INTEGER, theirs INTEGER)",
    "places": "(place INTEGER PRIMARY KEY, number INTEGER, name TEXT, ours INTEGER)",
    "scope": "(collection TEXT, key TEXT, PRIMARY KEY (collection, key)) WITHOUT ROWID",
    "taken": "(n INTEGER PRIMARY KEY, id INTEGER, was_live INTEGER)",
    "gone": "(n INTEGER PRIMARY KEY, id INTEGER UNIQUE)",
    "joined": "(id INTEGER PRIMARY KEY, collection TEXT, key TEXT, UNIQUE (collection, key))",
    # own writes that are stamped anew
    "tail": "(seq INTEGER PRIMARY KEY, header BLOB, body TEXT)",
    # entries that wait for their time
    "waiting": "(origin INTEGER, seq INTEGER, hash BLOB, header BLOB, body BLOB, cloud INTEGER,"
    " signature BLOB)",
}


def empty(connection: sqlite3.Connection, *names: str) -> None:
    """Make each ``temp.NAME`` anew, without rows."""
    for name in names:
        connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
        connection.execute(f"CREATE TEMP TABLE {name} {TABLES[name]}")
