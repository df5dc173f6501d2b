"""Own writes of a damaged file: kept until a peer has given what it has, then written again if it lacks them.

Each key's last one counts. If the peers have a newer version, the node writes that one once more after it:
the newer version wins again, and the salvaged one is listed as its conflict. With the clocks of their own
time, some nodes might take the salvaged writes, and others, which remember a delete, might not.

They are written in the order in which they came, so that nobody has one without what was there before it, a
bounded part in each transaction. Those that are done are landmarks from then on: after a crash the same log
decides about the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from entgldb.messages.limits import NAMED_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.log.rows import read_row
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.repair.lost_writes import LANDMARK, noting
from entgldb.storage.repair.rewrite import Place, Writer
from entgldb.storage.rules.header import Header, decode

Row = tuple[Origin, int, int, bytes, bytes | None]
"""Origin, seq, stamp, header and body of an entry."""
STEP_PAGES: Final = 10
"""Pages of rows that are looked at in one transaction before the first key is written."""
STEP_KEYS: Final = 500
"""Keys that are written again in one transaction."""
STEP_BYTES: Final = 4 * 1024 * 1024
"""The same for bytes of their bodies, beyond which no other begins."""


def carry_over(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Remember entries until it is known which of them are lost elsewhere."""
    connection.executemany("INSERT OR IGNORE INTO _entgldb_salvaged VALUES (?, ?, ?, ?, ?)", rows)


def carried_over(connection: sqlite3.Connection) -> Iterator[Row]:
    """All that is still to be decided about, and the landmarks."""
    yield from connection.execute("SELECT origin, seq, hlc, header, body FROM _entgldb_salvaged")


def waits(connection: sqlite3.Connection) -> bool:
    """Whether there are any."""
    find = "SELECT 1 FROM _entgldb_salvaged WHERE hlc > ? LIMIT 1"
    return connection.execute(find, (LANDMARK,)).fetchone() is not None


def waiting(connection: sqlite3.Connection) -> int:
    """How many are still to be decided about."""
    query = "SELECT count(*) FROM _entgldb_salvaged WHERE hlc > ?"
    return int(connection.execute(query, (LANDMARK,)).fetchone()[0])


_Last = tuple[int, Origin, int]
_FIRST: Final[_Last] = (0, "", 0)


class Salvaging:
    """Writes again what the peers lack, step by step."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._steps = 0
        """Those that were taken. Of them only those stand whose transaction was not undone."""
        self._noting: Iterator[None] | None = None
        self._last = _FIRST
        """The last of ``temp.lasts`` that is done."""

    def waits(self) -> bool:
        """Whether there is anything to write; done ones are not walked over at each step."""
        return self._last > _FIRST or waits(self._transaction.connection)

    def step(self, now_ms: int) -> int:
        """Note, or write, so many keys; how many were written. The next step goes on behind them."""
        connection, state = self._transaction.connection, self._transaction.state
        if not self._all_stand():
            self._noting, self._last = noting(connection, state), _FIRST
        if state.disowned or not self.waits():
            return 0
        self._steps += 1
        connection.execute(f"PRAGMA temp.user_version = {self._steps}")
        if self._noting is not None and not self._all_noted(self._noting):
            return 0
        if self._transaction.signing.needed_before(state, now_ms):
            self._transaction.signing.head(state)
        writer = Writer(self._transaction.batch, state.own, now_ms)
        written = size = 0
        while row := _after(connection, self._last):
            if written >= STEP_KEYS or size > STEP_BYTES:
                return written
            self._last, raw, body = row[:3], row[3], row[4]
            _write(writer, decode(raw), body)
            writer.end()
            self._transaction.signing.after_request(state)
            written, size = written + 1, size + len(body or b"")
            connection.execute(_DONE, self._last)
        connection.execute("DELETE FROM _entgldb_salvaged")
        self._noting, self._last = noting(connection, state), _FIRST
        return written

    def _all_stand(self) -> bool:
        """Whether none of the steps was undone, and with it what it had noted."""
        (standing,) = self._transaction.connection.execute("PRAGMA temp.user_version").fetchone()
        return 0 < self._steps == int(standing)

    def _all_noted(self, rest: Iterator[None]) -> bool:
        more = sum(1 for _ in islice(rest, STEP_PAGES)) == STEP_PAGES
        self._noting = rest if more else None
        return not more


_DONE: Final = (
    "UPDATE _entgldb_salvaged SET hlc = 0, body = NULL WHERE (origin, seq) IN"
    " (SELECT m.origin, m.seq FROM temp.lasts l JOIN temp.mine m"
    " ON m.collection = l.collection AND m.key = l.key WHERE (l.hlc, l.origin, l.seq) = (?, ?, ?))"
)
"""One body is in memory at a time."""


def _after(
    connection: sqlite3.Connection, last: _Last
) -> tuple[int, Origin, int, bytes, bytes | None] | None:
    row: tuple[int, Origin, int, bytes, bytes | None] | None = connection.execute(
        "SELECT l.hlc, l.origin, l.seq, s.header, s.body FROM temp.lasts l CROSS JOIN _entgldb_salvaged s"
        " ON s.origin = l.origin AND s.seq = l.seq WHERE (l.hlc, l.origin, l.seq) > (?, ?, ?)"
        " ORDER BY l.hlc, l.origin, l.seq LIMIT 1",
        last,
    ).fetchone()
    return row


def _write(writer: Writer, header: Header, body: bytes | None) -> None:
    place = (header.collection, header.key)
    text = None if body is None else body.decode()
    row = read_row(writer.batch, *place)
    named = _named(writer.batch.connection, place)
    parent = named[0] if named else None
    if row is None or row.newest.stamp < (header.hlc, header.origin):
        writer.write(place, text, parent, named[1:NAMED_MAX], expires=header.expires)
    elif text is not None and row.fields is None and text != row.text:
        # the salvaged body, and after it the present one, which replaces not it but what was there before
        writer.write(place, text, parent, named[1:NAMED_MAX], group=(0, 2), expires=header.expires)
        writer.write(place, row.text, row.newest.version, group=(1, 2), expires=row.newest.expires)


def _named(connection: sqlite3.Connection, place: Place) -> tuple[Version, ...]:
    """Versions that the writer of a key had replaced, those first that others still have."""
    rows = connection.execute(
        "SELECT n.origin, n.seq FROM temp.saw n JOIN _entgldb_origins o ON o.name = n.origin"
        " LEFT JOIN _entgldb_documents d ON d.collection = n.collection AND d.key = n.key"
        " AND d.origin = o.id AND d.seq = n.seq"
        " LEFT JOIN _entgldb_conflicts c ON c.origin = o.id AND c.seq = n.seq"
        " WHERE n.collection = ? AND n.key = ? ORDER BY d.id IS NULL, c.id IS NULL, n.seq DESC LIMIT ?",
        (*place, NAMED_MAX),
    )
    return tuple(Version(*row) for row in rows)
