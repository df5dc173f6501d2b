"""Rows of documents as verification sees them: walked, and read by key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Final

from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import Origin, Vector, Version
from entgldb.messages.wire import Copy
from entgldb.storage.log.read import LogReader
from entgldb.storage.log.unfit import APPLIED, UNFIT
from entgldb.storage.rules import clock
from entgldb.storage.rules.comparing.repair import is_sound
from entgldb.storage.rules.header import MERGE, Header, decode, digest
from entgldb.storage.rules.results import Walked
from entgldb.storage.rules.vector import covers, seqs

WAITING_MAX: Final = 10_000
"""Keys with an entry that is not applied of which a peer is told that they wait."""
COMING_MAX: Final = 10_000
"""Entries that a peer lacks whose keys are looked at."""
_PAGE_BYTES_MAX: Final = 1024 * 1024
_COPY: Final = (
    "SELECT d.collection, d.key, o.name, d.seq, d.hlc, CAST(d.body AS BLOB),"
    " coalesce(d.sha256, x''), d.stamps, ifnull(d.expires, 0)"
    " FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.collection = ? AND d.key = ? AND d.hlc > 0"
)


class Fingerprints:
    """The documents of a file. Nothing is open between two calls."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def walk(self, after: int) -> list[Walked]:
        """Rows of documents and tombstones with a higher id, in its order; empty at the end."""
        cursor = self._connection.execute(
            "SELECT d.id, d.collection, d.key, ifnull(o.name, '?/' || d.origin), d.seq, CAST(d.body AS BLOB)"
            " FROM _entgldb_documents d LEFT JOIN _entgldb_origins o ON o.id = d.origin"
            " WHERE d.id > ? ORDER BY d.id LIMIT ?",
            (after, PAGE_ROWS_MAX),
        )
        found, size = list[Walked](), 0
        with closing(cursor):
            for number, collection, key, origin, seq, body in cursor:
                sha256 = None if body is None else digest(body)
                found.append(Walked(number, collection, key, origin, seq, sha256))
                size += len(body or b"")
                if size >= _PAGE_BYTES_MAX:
                    break
        return found

    def copies(self, places: Iterable[tuple[str, str]]) -> Iterator[Copy]:
        """The rows of those of the keys that have one, one by one; a damaged one is not shown to anybody."""
        for collection, key in places:
            copy = read_copy(self._connection, collection, key)
            # whether its moment has passed, the receiver can tell
            if copy is not None and is_sound(
                copy, read_header(self._connection, copy.origin, copy.seq), clock.MS_MAX
            ):
                yield copy

    def waiting(self) -> list[tuple[str, str]]:
        """Keys of which an entry is in quarantine, or still to be supplied by a LAN peer."""
        return self._connection.execute(
            "SELECT collection, key FROM _entgldb_quarantine UNION"
            " SELECT collection, key FROM _entgldb_oplog WHERE applied = 0 LIMIT ?",
            (WAITING_MAX,),
        ).fetchall()

    def coming(self, theirs: Vector) -> set[tuple[str, str]]:
        """Keys of the first entries of the log that ``theirs`` does not cover."""
        first = LogReader(self._connection).first_missing(seqs(theirs))
        rows = self._connection.execute(
            "SELECT l.collection, l.key, o.name, l.seq FROM _entgldb_oplog l"
            " JOIN _entgldb_origins o ON o.id = l.origin WHERE l.lsn >= ? ORDER BY l.lsn LIMIT ?",
            (first, COMING_MAX),
        )
        return {(row[0], row[1]) for row in rows if not covers(theirs, Version(row[2], row[3]))}


def read_copy(connection: sqlite3.Connection, collection: str, key: str) -> Copy | None:
    """A document or tombstone, or None. A row that a snapshot has buried (hlc 0) counts as none."""
    row = connection.execute(_COPY, (collection, key)).fetchone()
    return None if row is None else Copy(*row)


def has_unapplied(connection: sqlite3.Connection, collection: str, key: str) -> bool:
    """Whether an entry of a key is in quarantine, or is still to be supplied by a LAN peer."""
    row = connection.execute(
        "SELECT 1 FROM _entgldb_quarantine WHERE collection = ? AND key = ? UNION ALL"
        " SELECT 1 FROM _entgldb_oplog WHERE applied = 0 AND collection = ? AND key = ? LIMIT 1",
        (collection, key) * 2,
    ).fetchone()
    return row is not None


def was_dropped(connection: sqlite3.Connection, origin: Origin, seq: int) -> bool:
    """Whether an entry could not be applied here, and somebody has decided that it never will be."""
    row = _log_row(connection, origin, seq)
    return row is not None and row[2] == UNFIT


def read_logged(connection: sqlite3.Connection, copy: Copy) -> Copy | None:
    """The logged form of a row's version, if the log still has it whole, applied, and for that very key.

    A merge says which fields it changed, not what became of the document: None for a row it has made.
    """
    row = _log_row(connection, copy.origin, copy.seq)
    if row is None or row[2] != APPLIED or copy.stamps is not None:
        return None
    header, body = decode(row[0]), row[1]
    if (header.collection, header.key) != (copy.collection, copy.key) or header.op == MERGE:
        return None
    if (b"" if body is None else digest(body)) != header.body_sha256:
        return None
    place = (copy.collection, copy.key, copy.origin, copy.seq)
    return Copy(*place, header.hlc, body, header.body_sha256, None, header.expires)


def read_header(connection: sqlite3.Connection, origin: Origin, seq: int) -> Header | None:
    """The header of a version, None where it is not in the log any more."""
    row = _log_row(connection, origin, seq)
    return None if row is None else decode(row[0])


def _log_row(connection: sqlite3.Connection, origin: Origin, seq: int) -> Any:
    """Header, body, and whether it was applied; None where the log does not have it."""
    return connection.execute(
        "SELECT l.header, CAST(l.body AS BLOB), l.applied FROM _entgldb_oplog l"
        " JOIN _entgldb_origins o ON o.id = l.origin WHERE o.name = ? AND l.seq = ?",
        (origin, seq),
    ).fetchone()
