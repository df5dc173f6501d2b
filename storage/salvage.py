"""A damaged file is set aside and begun anew; what this node had written and nobody else has is carried over.

The peers have the rest. Of the damaged log every row is read that can be, found by halving the ranges that
cannot; a row counts when its header has the hash it was recorded with and its body the digest that one names.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import EntglError, NotFoundError, ProtocolError
from entgldb.messages.model import SYSTEM_PREFIX, node_of
from entgldb.storage import fingerprint
from entgldb.storage.database import FILE, open_damaged
from entgldb.storage.fingerprint import sync_directory
from entgldb.storage.rules.header import DELETE, PUT, Header, decode, digest
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.salvaged import keep
from entgldb.storage.store import Store

_RANGE: Final = 1_000
_COLUMNS: Final = "SELECT lsn, hash, header, CAST(body AS BLOB) FROM _entgldb_oplog"


class Rebuilt(NamedTuple):
    """What became of a damaged file."""

    set_aside: str
    salvaged: int
    """Own entries that were read whole; those that peers lack are written again after the first sync."""
    unreadable: int
    """Rows of the log that could not be read, or are not what they were."""


class Found(NamedTuple):
    """What a damaged log gave."""

    entries: list[tuple[Header, bytes | None]]
    peers: list[tuple[Any, ...]]
    unreadable: int


def rebuild(directory: Path, node_id: str, now_ms: int) -> Rebuilt:
    """Begin the database of a node anew. The caller holds the directory's lock. Raises EntglError."""
    if not (directory / FILE).exists():
        raise NotFoundError(f"there is no {FILE} in {directory}", hint="start the node without --rebuild")
    found = _read(directory, node_id)
    aside = _set_aside(directory, now_ms)
    store = Store.open(directory, node_id, now_ms)
    try:
        store.begin_anew(b"", Why.REBUILT, now_ms)
        with store.group():
            store.state.clock = max((header.hlc for header, _ in found.entries), default=0)
            keep(store.connection, found.entries)
            for peer in found.peers:
                store.remember_peer(*peer)
    finally:
        store.close()
    return Rebuilt(aside, len(found.entries), found.unreadable)


def _read(directory: Path, node_id: str) -> Found:
    entries: list[tuple[Header, bytes | None]] = []
    unreadable = 0
    peers: list[tuple[Any, ...]] = []
    try:
        damaged = open_damaged(directory)
    except EntglError:
        return Found([], [], 0)
    with closing(damaged):
        for row in _rows(damaged):
            entry = _entry(row)
            if entry is None:
                unreadable += 1
            elif node_of(entry[0].origin) == node_id and not entry[0].collection.startswith(SYSTEM_PREFIX):
                entries.append(entry)
        with contextlib.suppress(sqlite3.Error):
            peers = damaged.execute("SELECT node_id, address, seen_ms FROM _entgldb_peers").fetchall()
    return Found(entries, peers, unreadable)


def _rows(damaged: sqlite3.Connection) -> Iterator[tuple[Any, ...] | None]:
    """Every row that can be read, and None for each number at which there is one that cannot."""
    last = _last(damaged)
    for first in range(1, last + 1, _RANGE):
        yield from _range(damaged, first, min(last, first + _RANGE - 1))


def _range(damaged: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Any, ...] | None]:
    try:
        rows = damaged.execute(f"{_COLUMNS} WHERE lsn BETWEEN ? AND ? ORDER BY lsn", (first, last)).fetchall()
    except sqlite3.Error:
        if first == last:
            yield None
            return
        middle = (first + last) // 2
        yield from _range(damaged, first, middle)
        yield from _range(damaged, middle + 1, last)
        return
    yield from rows


def _last(damaged: sqlite3.Connection) -> int:
    found = 0
    for query in ("SELECT lsn FROM _entgldb_state", "SELECT max(lsn) FROM _entgldb_oplog"):
        with contextlib.suppress(sqlite3.Error):
            row = damaged.execute(query).fetchone()
            value = row[0] if row is not None else 0
            found = max(found, value if isinstance(value, int) else 0)
    # a number that makes no sense is damage, too
    return min(found, 2**40)


def _entry(row: tuple[Any, ...] | None) -> tuple[Header, bytes | None] | None:
    """A row that is what it was when it was written."""
    if row is None:
        return None
    _, recorded, raw, body = row
    try:
        if digest(raw) != recorded:
            return None
        header = decode(raw)
        # changed fields alone are nothing to be written again: their document may be the peers'
        whole = (
            header.op == DELETE if body is None else header.op == PUT and digest(body) == header.body_sha256
        )
    except (ProtocolError, TypeError):
        return None
    return (header, body) if whole else None


def _set_aside(directory: Path, now_ms: int) -> str:
    aside = f"{FILE}.corrupt-{now_ms}"
    for ending in ("-shm", "-wal", ""):
        present = directory / f"{FILE}{ending}"
        if present.exists():
            present.replace(directory / f"{aside}{ending}")
    (directory / fingerprint.FILE).unlink(missing_ok=True)
    sync_directory(directory)
    return aside
