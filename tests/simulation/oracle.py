"""What all nodes must agree on, computed anew from the union of all logs.

Independent of the code under test: headers are read with msgpack alone, nothing is incremental, and
order of arrival plays no part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import msgpack

Id = tuple[str, int]
Place = tuple[str, str]


class Operation(NamedTuple):
    """An entry of some log."""

    id: Id
    hlc: int
    place: Place
    delete: bool
    parent: Id | None
    hash: bytes
    previous: bytes
    body_sha256: bytes
    header: bytes
    body: str | None


class Logged(NamedTuple):
    """A row of one node's log."""

    lsn: int
    operation: Operation
    applied: bool


class State(NamedTuple):
    """Documents (None: a tombstone) with their versions, and the losers of concurrent writes."""

    documents: dict[Place, tuple[Id, str | None]]
    conflicts: set[tuple[Place, Id]]


def read_operation(header: bytes, body: str | None) -> Operation:
    """Take a header apart."""
    _, origin, seq, hlc, collection, key, op, parent, _, _, digest, previous = msgpack.unpackb(header)
    return Operation(
        (origin, seq),
        hlc,
        (collection, key),
        op == 1,
        None if parent is None else (parent[0], parent[1]),
        sha256(header).digest(),
        previous,
        digest,
        header,
        body,
    )


def read_log(connection: sqlite3.Connection, after_lsn: int = 0) -> list[Logged]:
    """Rows of a node's log in its own order."""
    rows = connection.execute(
        "SELECT lsn, header, body, applied FROM _entgldb_oplog WHERE lsn > ? ORDER BY lsn", (after_lsn,)
    ).fetchall()
    return [Logged(lsn, read_operation(header, body), applied == 1) for lsn, header, body, applied in rows]


def read_state(connection: sqlite3.Connection) -> State:
    """What a node shows."""
    documents = connection.execute(
        "SELECT d.collection, d.key, o.name, d.seq, d.body FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin"
    ).fetchall()
    conflicts = connection.execute(
        "SELECT c.collection, c.key, o.name, c.seq FROM _entgldb_conflicts c"
        " JOIN _entgldb_origins o ON o.id = c.origin"
    ).fetchall()
    return State(
        {(collection, key): ((origin, seq), body) for collection, key, origin, seq, body in documents},
        {((collection, key), (origin, seq)) for collection, key, origin, seq in conflicts},
    )


def count_conflicts(connection: sqlite3.Connection) -> int:
    """How many losers a node lists."""
    (count,) = connection.execute("SELECT count(*) FROM _entgldb_conflicts").fetchone()
    return int(count)


def fold(operations: Iterable[Operation]) -> State:
    """The greatest (clock, origin) of a key wins; other puts that nobody has replaced are conflicts."""
    every = list(operations)
    replaced = {one.parent for one in every if one.parent is not None}
    winners: dict[Place, Operation] = {}
    for one in every:
        best = winners.get(one.place)
        if best is None or (one.hlc, one.id[0]) > (best.hlc, best.id[0]):
            winners[one.place] = one
    conflicts = {
        (one.place, one.id)
        for one in every
        if not one.delete and one.id not in replaced and winners[one.place].id != one.id
    }
    documents = {place: (one.id, None if one.delete else one.body) for place, one in winners.items()}
    return State(documents, conflicts)
