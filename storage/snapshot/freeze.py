"""Writing a snapshot: one read transaction of a node's file becomes numbered chunks in a file of their own.

A node may give the chunks to any member. They hold documents, tombstones and conflicts with their versions,
and the vector. They hold no private key, no request, no address. The system collections come last, so that a
cloud can be given all but them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from entgldb.messages.errors import EntglError
from entgldb.messages.local.snapshots import Frozen
from entgldb.messages.model import Origin
from entgldb.storage.authorship import runs
from entgldb.storage.log.recorded import is_outdated, vouches
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.rules.comparing.chunks import CONFLICTS, DOCUMENTS, Mark, Preface
from entgldb.storage.rules.ended import end_of_expelled
from entgldb.storage.rules.header import decode

_TABLE: Final = (
    "CREATE TABLE chunks (number INTEGER PRIMARY KEY, payload BLOB NOT NULL, sha256 BLOB NOT NULL)"
)
_SYSTEM: Final = "collection >= '_system_' AND collection < '_system`'"
"""A range of the index; '`' is the character after '_'."""
_DOCUMENTS: Final = (
    "SELECT collection, key, CAST(body AS BLOB), origin, seq, hlc, stamps, expires FROM _entgldb_documents"
    # a tombstone that a snapshot left (hlc 0) says no more than that nothing is there
    " WHERE (body IS NOT NULL OR hlc > 0) AND {} ORDER BY collection, key"
)
_CONFLICTS: Final = (
    "SELECT collection, key, CAST(body AS BLOB), origin, seq, hlc,"
    " CASE rule WHEN 'lww' THEN NULL ELSE CAST(rule AS BLOB) END, expires FROM _entgldb_conflicts"
    " WHERE {} ORDER BY collection, key, origin, seq"
)


def freeze(source: sqlite3.Connection, target: sqlite3.Connection) -> Frozen:
    """Write the state that ``source`` has now into the empty ``target``; rows stream, few are in memory.

    Raises EntglError where entries are in quarantine, or were dropped from it, and where more of an expelled
    node is here than counts.
    """
    target.execute(_TABLE)
    source.execute("BEGIN")
    try:
        _refuse_with_quarantine(source)
        _refuse_beyond_end(source)
        target.execute("BEGIN")
        head, places = _head(source)
        writer = _Writer(target, places)
        writer.write(DOCUMENTS, source.execute(_DOCUMENTS.format(f"NOT ({_SYSTEM})")))
        writer.write(CONFLICTS, source.execute(_CONFLICTS.format(f"NOT ({_SYSTEM})")))
        common = writer.number
        if head.system:
            writer.write(DOCUMENTS, source.execute(_DOCUMENTS.format(_SYSTEM)))
            writer.write(CONFLICTS, source.execute(_CONFLICTS.format(_SYSTEM)))
        found = _close(target, writer, head, common)
        target.execute("COMMIT")
    finally:
        source.execute("ROLLBACK")
    return found


def read_chunk(connection: sqlite3.Connection, number: int) -> tuple[bytes, bytes] | None:
    """A chunk and its SHA-256."""
    row: tuple[bytes, bytes] | None = connection.execute(
        "SELECT payload, sha256 FROM chunks WHERE number = ?", (number,)
    ).fetchone()
    return row


class _Writer:
    """Cuts rows into chunks."""

    def __init__(self, target: sqlite3.Connection, places: dict[int, int]) -> None:
        self.target = target
        self.number = 1
        self.rows = 0
        self.bytes = 0
        self._places = places

    def write(self, kind: int, rows: Iterator[tuple[Any, ...]]) -> None:
        """All rows of one kind."""
        places = self._places
        gathered: list[tuple[Any, ...]] = []
        size = 0
        for row in rows:
            made = (*row[:3], places[row[3]], *row[4 : 7 if row[7] is None else 8])
            gathered.append(made)
            size += chunks.cost(made)
            if chunks.full(len(gathered), size):
                self._put(kind, gathered)
                gathered, size = [], 0
        if gathered:
            self._put(kind, gathered)

    def _put(self, kind: int, rows: list[tuple[Any, ...]]) -> None:
        for payload in chunks.pieces(chunks.encode_rows(kind, self.rows + 1, rows)):
            self.put(self.number, payload)
            self.number += 1
        self.rows += len(rows)

    def put(self, number: int, payload: bytes) -> None:
        self.target.execute(
            "INSERT INTO chunks VALUES (?, ?, ?)", (number, payload, sha256(payload).digest())
        )
        self.bytes += len(payload)


def _refuse_with_quarantine(source: sqlite3.Connection) -> None:
    """Raise EntglError while this node lacks entries that it could not apply. A receiver of the snapshot
    would take their documents for deleted, and may itself have been able to apply them."""
    if source.execute("SELECT 1 FROM _entgldb_quarantine LIMIT 1").fetchone() is not None:
        raise EntglError("entries are in quarantine here: this node can vouch for no state")
    for (raw,) in source.execute("SELECT header FROM _entgldb_oplog WHERE applied = 2"):
        dropped = decode(raw)
        if not is_outdated(source, dropped):
            raise EntglError(f"{dropped.version} was dropped here: this node can vouch for no state")


def _refuse_beyond_end(source: sqlite3.Connection) -> None:
    """Raise EntglError where more of an expelled node is here than counts: it would go from file to file."""
    ended = dict(source.execute("SELECT origin, seq FROM _entgldb_ended").fetchall())
    for origin, seq in source.execute("SELECT name, seq FROM _entgldb_heads") if ended else ():
        end = end_of_expelled(ended, origin)
        if end is not None and seq > end:
            raise EntglError(f"more of {origin} is here than counts: this node can vouch for no state")


def _head(source: sqlite3.Connection) -> tuple[Preface, dict[int, int]]:
    """The head, and where in it each origin of the file stands."""
    (clock,) = source.execute("SELECT clock FROM _entgldb_now").fetchone()
    rows: list[tuple[int, Origin, int, bytes, int, int, bytes, bytes]] = source.execute(
        "SELECT id, name, seq, head, min(floor, seq), hlc, ifnull(public_key, x''), ifnull(attestation, x'')"
        " FROM _entgldb_heads ORDER BY name"
    ).fetchall()
    # in no document: a receiver without the system collections has to hear of them, too
    ends: dict[Origin, int] = dict(source.execute("SELECT origin, seq FROM _entgldb_ended").fetchall())
    begun = runs.of_all(source, len(rows))
    marks = [
        Mark(*row[1:], end=_end(ends.pop(row[1], None), row[2]), runs=begun.get(row[0], ())) for row in rows
    ]
    marks += [Mark(origin, 0, b"", 0, 0, end=seq) for origin, seq in ends.items()]
    return Preface(tuple(marks), clock, vouches(source)), {row[0]: place for place, row in enumerate(rows)}


def _end(seq: int | None, head: int) -> int | None:
    """The end of a log; None where more of it is pruned here, and so can never be taken out."""
    return seq if seq is not None and seq >= head else None


def _close(target: sqlite3.Connection, writer: _Writer, head: Preface, common: int) -> Frozen:
    writer.put(0, chunks.encode_preface(head))
    digests = target.execute("SELECT sha256 FROM chunks ORDER BY number")
    name = chunks.snapshot_id(digest for (digest,) in digests)
    return Frozen(name, head.vector(), writer.number, common, writer.rows, writer.bytes)
