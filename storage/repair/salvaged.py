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
from typing import Final

from entgldb.messages.limits import NAMED_MAX, RUN_HASH_BYTES
from entgldb.messages.model import Origin, Version
from entgldb.storage.authorship import runs
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import Known, State
from entgldb.storage.log.rows import read_row
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.repair.rewrite import Place, Writer
from entgldb.storage.rules.header import Header, decode, digest

Row = tuple[Origin, int, int, bytes, bytes | None]
"""Origin, seq, stamp, header and body of an entry."""
LANDMARK: Final = 0
"""The stamp of a row that is no write: its entry begins a run, could not be read (without a header), or is
written again by now."""
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


class Salvaging:
    """Writes again what the peers lack, step by step."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._last: int | None = None
        """The last place in ``temp.lasts`` that is done; None: what is to be done is not noted there."""

    def forget(self) -> None:
        """A transaction was undone, and with it what was noted."""
        self._last = None

    def waits(self) -> bool:
        """Whether there is anything to write; done ones are not walked over at each step."""
        return self._last is not None or waits(self._transaction.connection)

    def step(self, now_ms: int) -> int:
        """Write so many keys; how many there were. The next step goes on behind them."""
        connection, state = self._transaction.connection, self._transaction.state
        if state.disowned or not self.waits():
            return 0
        if self._last is None:
            _note_lasts(connection, state)
            self._last = 0
        if self._transaction.signing.needed_before(state, now_ms):
            self._transaction.signing.head(state)
        writer = Writer(self._transaction.batch, state.own, now_ms)
        written = size = 0
        while row := _after(connection, self._last):
            if written >= STEP_KEYS or size > STEP_BYTES:
                return written
            self._last, raw, body = row
            _write(writer, decode(raw), body)
            writer.end()
            self._transaction.signing.after_request(state)
            written, size = written + 1, size + len(body or b"")
            connection.execute(_DONE, (self._last,))
        connection.execute("DELETE FROM _entgldb_salvaged")
        self._last = None
        return written


_DONE: Final = (
    "UPDATE _entgldb_salvaged SET hlc = 0, body = NULL WHERE (origin, seq) IN"
    " (SELECT m.origin, m.seq FROM temp.lasts l JOIN temp.mine m"
    " ON m.collection = l.collection AND m.key = l.key WHERE l.id = ?)"
)
"""One body is in memory at a time."""


def _after(connection: sqlite3.Connection, last: int) -> tuple[int, bytes, bytes | None] | None:
    row: tuple[int, bytes, bytes | None] | None = connection.execute(
        "SELECT l.id, s.header, s.body FROM temp.lasts l JOIN _entgldb_salvaged s"
        " ON s.origin = l.origin AND s.seq = l.seq WHERE l.id > ? ORDER BY l.id LIMIT 1",
        (last,),
    ).fetchone()
    return row


def _note_lasts(connection: sqlite3.Connection, state: State) -> None:
    """Note the lost writes to each key, the last of them, and the versions that their writer had replaced by
    them."""
    execute = connection.execute
    empty(connection, "lacking", "mine", "lasts", "saw")
    names = execute("SELECT DISTINCT origin FROM _entgldb_salvaged").fetchall()
    lacking = {origin: _first_lacking(connection, state.origins.get(origin), origin) for (origin,) in names}
    connection.executemany(
        "INSERT INTO temp.lacking VALUES (?, ?)", ((o, n) for o, n in lacking.items() if n)
    )
    for raw, origin, seq in execute(
        "SELECT s.header, s.origin, s.seq FROM temp.lacking l JOIN _entgldb_salvaged s"
        " ON s.origin = l.origin AND s.seq >= l.first WHERE s.hlc > ? ORDER BY s.hlc, s.origin",
        (LANDMARK,),
    ):
        header = decode(raw)
        place = (header.collection, header.key)
        execute("INSERT INTO temp.mine VALUES (?, ?, ?, ?)", (*place, origin, seq))
        execute("DELETE FROM temp.lasts WHERE collection = ? AND key = ?", place)
        execute("INSERT INTO temp.lasts VALUES (NULL, ?, ?, ?, ?)", (*place, origin, seq))
        for version in header.named:
            # the peers may have another entry by the number of one that is lost
            known, first = state.origins.get(version.origin), lacking.get(version.origin, 0)
            if known is not None and version.seq <= known.head.seq and not 0 < first <= version.seq:
                execute("INSERT OR IGNORE INTO temp.saw VALUES (?, ?, ?, ?)", (*place, *version))


def _first_lacking(connection: sqlite3.Connection, known: Known | None, origin: Origin) -> int:
    """The first entry of a salvaged log that the peers' one does not have; 0: it has all.

    A number alone tells nothing: the file may have gone back, as nobody told, and two logs go on from there.
    Logs that have the same entry have the same ones before it. Of entries that the peers have pruned their
    runs tell. Where nothing tells they lack it: an entry that is written in vain harms less than one lost.
    """
    if known is None:
        return 1
    first, common = 0, False
    begun = runs.of(connection, known.number)
    since = runs.known_since(begun)
    rows = connection.execute(
        "SELECT seq, header FROM _entgldb_salvaged WHERE origin = ? ORDER BY seq DESC", (origin,)
    )
    for seq, raw in rows:
        ours, theirs = digest(raw), _hash(connection, known, seq)
        common = ours == theirs or (seq, ours[:RUN_HASH_BYTES]) in begun
        if common:
            break
        header = decode(raw) if raw else None
        if theirs is None and seq <= known.head.seq:
            lacks = seq > since and (header is None or header.begins)
        else:
            lacks = header is not None
        first = seq if lacks else first
        common = header is not None and header.prev_hash == _hash(connection, known, seq - 1)
        if common:
            break
    rows.close()
    # the branches may have parted before all runs that are known
    return 1 if first and since and not common else first


def _hash(connection: sqlite3.Connection, known: Known, seq: int) -> bytes | None:
    """Of an entry that is not pruned, or is the last."""
    if seq == known.head.seq:
        return known.head.hash
    find = "SELECT hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?"
    row: tuple[bytes] | None = connection.execute(find, (known.number, seq)).fetchone()
    return None if row is None else row[0]


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
