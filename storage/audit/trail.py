"""The table of the audit log and its writer, within the transactions of the store.

It is made with the first row: files in which nothing has happened stay as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from entgldb.messages.administration import Event
from entgldb.messages.limits import AUDIT_PRUNED_ROWS, AUDIT_ROWS_MAX
from entgldb.storage.audit.rows import BEGINNING, Act, Row, cut, digest, named

TABLES: Final = """CREATE TABLE _entgldb_audit (
    number INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, event TEXT NOT NULL, node TEXT NOT NULL,
    who TEXT NOT NULL, subject TEXT NOT NULL, outcome TEXT NOT NULL, key_id TEXT NOT NULL,
    left_out INTEGER NOT NULL, hash BLOB NOT NULL
)"""
_OLDEST: Final = "SELECT number, hash FROM _entgldb_audit ORDER BY number LIMIT 1"
_NEWEST: Final = "SELECT number, hash FROM _entgldb_audit ORDER BY number DESC LIMIT 1"


class Trail:
    """Of one file."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        node: str,
        rows_max: int = AUDIT_ROWS_MAX,
        *,
        stands: bool = False,
    ) -> None:
        """``stands``: the table is there, whatever happens."""
        self._connection = connection
        self._stands = stands
        self._node = node
        self._rows_max = rows_max

    def note(self, act: Act, now_ms: int) -> None:
        """Write one row, within the transaction that runs; the oldest go where there are too many."""
        if not self._exists():
            self._connection.execute(TABLES)
        first, _ = self._end(_OLDEST)
        last, before = self._end(_NEWEST)
        who, subject, outcome, key_id = map(cut, (act.who, act.subject, act.outcome, act.key_id))
        row = Row(last + 1, now_ms, act.event.value, self._node, who, subject, outcome, key_id, act.left_out)
        self._insert(row, digest(before, row))
        if first and row.number - first >= self._rows_max:
            self._prune(first + min(AUDIT_PRUNED_ROWS, self._rows_max // 2), now_ms)

    def go_on_from(self, rows: Iterable[tuple[Row, bytes]]) -> None:
        """Have the rows of the file that this one takes the place of, within the transaction that runs.

        Raises sqlite3.Error as far as they cannot be read; those before stay.
        """
        if self._exists():
            self._connection.execute("DELETE FROM _entgldb_audit")
        else:
            self._connection.execute(TABLES)
        for row, found in rows:
            self._insert(row, found)

    def head(self) -> str:
        """The name of the newest row; empty where there is none."""
        number, found = self._end(_NEWEST) if self._exists() else (0, b"")
        return named(number, found) if number else ""

    def _exists(self) -> bool:
        return self._stands or exists(self._connection)

    def _insert(self, row: Row, found: bytes) -> None:
        self._connection.execute(
            "INSERT INTO _entgldb_audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, found)
        )

    def _prune(self, first: int, now_ms: int) -> None:
        """Take out all before row ``first``, and have the chain say so."""
        (found,) = self._connection.execute(
            "SELECT hash FROM _entgldb_audit WHERE number = ?", (first,)
        ).fetchone()
        self._connection.execute("DELETE FROM _entgldb_audit WHERE number < ?", (first,))
        self.note(Act(Event.PRUNED, named(first, found)), now_ms)

    def _end(self, query: str) -> tuple[int, bytes]:
        """Number and digest of the row at an end."""
        row = self._connection.execute(query).fetchone()
        return (0, BEGINNING) if row is None else row


def exists(connection: sqlite3.Connection) -> bool:
    """Whether a file has an audit log."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_entgldb_audit'").fetchone()
    return found is not None
