"""Reading a whole file against itself: pages, chains, bodies and counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from entgldb.messages.errors import ProtocolError
from entgldb.storage.rules.header import decode, digest

FAULTS_TOLD_MAX: Final = 20
_PAGE: Final = 500


def faults(connection: sqlite3.Connection) -> list[str]:
    """The first few faults of a database; empty when all is as it should be.

    SQLite keeps no checksums of its pages: a flipped bit in a header shows in its hash, in a body or a
    document in its digest, anywhere else in SQLite's own checks or in the counts.
    """
    found: list[str] = []
    try:
        for fault in _all(connection):
            found.append(fault)
            if len(found) == FAULTS_TOLD_MAX:
                break
    except (sqlite3.Error, UnicodeDecodeError) as fault:
        found.append(f"reading ends: {fault!s:.200}")
    return found


def _all(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute(f"PRAGMA integrity_check({FAULTS_TOLD_MAX})"):
        if line != "ok":
            yield str(line)
    yield from _log(connection)
    yield from _documents(connection)
    yield from _counts(connection)


def _log(connection: sqlite3.Connection) -> Iterator[str]:
    origins = connection.execute("SELECT id, name, seq, head, floor FROM _entgldb_origins ORDER BY id")
    for number, name, seq, head, floor in origins.fetchall():
        at, before = floor, b""
        while page := connection.execute(
            "SELECT seq, hash, collection, key, header, CAST(body AS BLOB) FROM _entgldb_oplog"
            " WHERE origin = ? AND seq > ? ORDER BY seq LIMIT ?",
            (number, at, _PAGE),
        ).fetchall():
            for row in page:
                if row[0] != at + 1:
                    yield f"the log of {name} has no entry {at + 1}"
                yield from _entry(name, row, before if before or floor == 0 else None)
                at, before = row[0], row[1]
        if at != seq or (before and before != head):
            yield f"the log of {name} ends at {at}, and should at {seq}"


def _entry(
    origin: str, row: tuple[int, bytes, str, str, bytes, bytes | None], before: bytes | None
) -> Iterator[str]:
    seq, recorded, collection, key, raw, body = row
    where = f"entry {seq} of {origin}"
    if digest(raw) != recorded:
        yield f"{where}: its header is not the one its hash was made of"
        return
    try:
        header = decode(raw)
    except ProtocolError as fault:
        yield f"{where}: {fault.text}"
        return
    if (header.origin, header.seq, header.collection, header.key) != (origin, seq, collection, key):
        yield f"{where}: its columns are not what its header says"
    if before is not None and header.prev_hash != before:
        yield f"{where} does not follow on the one before"
    if body is not None and digest(body) != header.body_sha256:
        yield f"{where}: its body is not the one its header was made for"


def _documents(connection: sqlite3.Connection) -> Iterator[str]:
    last = 0
    while page := connection.execute(
        "SELECT id, collection, key, CAST(body AS BLOB), sha256 FROM _entgldb_documents"
        " WHERE id > ? ORDER BY id LIMIT ?",
        (last, _PAGE),
    ).fetchall():
        for number, collection, key, body, wanted in page:
            if body is not None and sha256(body).digest() != wanted:
                yield f"the document {collection}/{key} is not the one that was written"
            last = number


def _counts(connection: sqlite3.Connection) -> Iterator[str]:
    told = connection.execute("SELECT documents, entries, conflicts FROM _entgldb_state").fetchone()
    names = ("documents", "log entries", "conflicts")
    queries = (
        "SELECT count(*) FROM _entgldb_documents WHERE body IS NOT NULL",
        "SELECT count(*) FROM _entgldb_oplog",
        "SELECT count(*) FROM _entgldb_conflicts",
    )
    for name, query, wanted in zip(names, queries, told or (), strict=True):
        (found,) = connection.execute(query).fetchone()
        if found != wanted:
            yield f"{found} {name}, and {wanted} were counted"
