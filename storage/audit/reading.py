"""Reads of the audit log, from any process. No transaction is kept open between pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.storage.audit.rows import Row, Verdict, judge
from entgldb.storage.audit.trail import exists


def chained(connection: sqlite3.Connection) -> Iterator[tuple[Row, bytes]]:
    """All rows with their digests, in order."""
    after = 0
    while exists(connection):
        page = connection.execute(
            "SELECT * FROM _entgldb_audit WHERE number > ? ORDER BY number LIMIT ?", (after, PAGE_ROWS_MAX)
        ).fetchall()
        if not page:
            return
        for *fields, found in page:
            yield Row(*fields), bytes(found)
        after = page[-1][0]


def newest(connection: sqlite3.Connection, rows_max: int) -> list[Row]:
    """The last rows, the newest first."""
    if not exists(connection):
        return []
    found = connection.execute("SELECT * FROM _entgldb_audit ORDER BY number DESC LIMIT ?", (rows_max,))
    return [Row(*fields) for *fields, _ in found]


def verify(connection: sqlite3.Connection, noted: str = "") -> Verdict:
    """Look over the whole chain; ``noted``: the name of a row that has to be there."""
    return judge(chained(connection), noted)
