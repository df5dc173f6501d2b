"""Own writes of a damaged file: kept until a peer has given what it has, then written again if it lacks them.

Each key's last one counts. If the peers have a newer version, the node writes that one once more after it:
the newer version wins again, and the salvaged one is listed as its conflict. With the clocks of their own
time, some nodes might take the salvaged writes, and others, which remember a delete, might not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file.scratch import empty
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import read_row
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.writes import Writing
from entgldb.storage.repair.rewrite import Writer
from entgldb.storage.rules.header import Header, decode, digest, encode


def carry_over(connection: sqlite3.Connection, entries: Sequence[tuple[Header, bytes | None]]) -> None:
    """Remember entries until it is known which of them are lost elsewhere."""
    connection.executemany(
        "INSERT OR REPLACE INTO _entgldb_salvaged VALUES (?, ?, ?, ?, ?)",
        [(header.origin, header.seq, header.hlc, encode(header), body) for header, body in entries],
    )


def carried_over(connection: sqlite3.Connection) -> Iterator[tuple[bytes, bytes | None]]:
    """Header and body of each that is still to be decided about."""
    yield from connection.execute("SELECT header, body FROM _entgldb_salvaged")


def waiting(connection: sqlite3.Connection) -> int:
    """How many are still to be decided about."""
    return int(connection.execute("SELECT count(*) FROM _entgldb_salvaged").fetchone()[0])


def write_again(transaction: Transaction, writing: Writing, now_ms: int) -> int:
    """Those that are not in the log by now; how many keys were written. One body is in memory at a time."""
    execute = transaction.connection.execute
    if not waiting(transaction.connection):
        return 0
    covered = transaction.state.vector()
    empty(transaction.connection, "lasts")
    for raw, origin, seq in execute("SELECT header, origin, seq FROM _entgldb_salvaged ORDER BY hlc, origin"):
        if seq > covered.get(origin, (0, b""))[0]:
            header = decode(raw)
            place = (header.collection, header.key)
            execute("DELETE FROM temp.lasts WHERE collection = ? AND key = ?", place)
            execute("INSERT INTO temp.lasts VALUES (NULL, ?, ?, ?, ?)", (*place, origin, seq))
    written = last = 0
    while row := execute(
        "SELECT l.id, s.header, s.body FROM temp.lasts l JOIN _entgldb_salvaged s"
        " ON s.origin = l.origin AND s.seq = l.seq WHERE l.id > ? ORDER BY l.id LIMIT 1",
        (last,),
    ).fetchone():
        last = row[0]
        _write(transaction, writing, decode(row[1]), row[2], written, now_ms)
        written += 1
    execute("DELETE FROM _entgldb_salvaged")
    return written


def _write(
    transaction: Transaction, writing: Writing, header: Header, body: bytes | None, number: int, now_ms: int
) -> None:
    batch = Batch(transaction.connection, transaction.state)
    row = read_row(batch, header.collection, header.key)
    life = max(1, header.expires - now_ms) if header.expires else 0
    if row is None or row.newest.stamp < (header.hlc, header.origin):
        # a request id of this origin alone: nobody asks for its answer
        write = Write(header.collection, header.key, body, expire_after=None if body is None else life)
        request = RequestId(digest(transaction.state.own.encode())[:16], transaction.state.lsn + number)
        writing.write(request, [write], now_ms)
    elif body is not None and row.fields is None and body.decode() != row.text:
        # the salvaged body, and after it the present one, which replaces not it but what was there before
        writer, place = Writer(batch, transaction.state.own, now_ms), (header.collection, header.key)
        writer.write(place, body.decode(), None, group=(0, 2), expires=header.expires)
        writer.write(place, row.text, row.newest.version, group=(1, 2), expires=row.newest.expires)
        writer.end()
