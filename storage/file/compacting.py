"""Giving free pages back to the disk, in bounded steps: writers wait for one of them at most.

The file is made with ``auto_vacuum = INCREMENTAL``, so that SQLite knows for each page who refers to it and
can move the last ones into free places. Each step is a transaction: a crash leaves the file as it was before
or after it. Pages that are half full stay so.
"""

from __future__ import annotations

import sqlite3
from typing import Final

STEP_PAGES: Final = 1_000
"""Pages given back in one transaction: some 50 ms, and twice as many pages of the write-ahead log at most."""
_INCREMENTAL: Final = 2


def step(connection: sqlite3.Connection) -> bool:
    """Give back STEP_PAGES at most, outside of any transaction; whether more are free."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL:
        # each page is a row without columns, which sqlite3 walks for scripts alone
        connection.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")
    else:
        # made by a program that did not ask for it: written anew once
        connection.execute("VACUUM")
    return bool(connection.execute("PRAGMA freelist_count").fetchone()[0])


def file_bytes(connection: sqlite3.Connection) -> int:
    """Size of the database without its write-ahead log."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size)
