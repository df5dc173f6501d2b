"""The state that all nodes must agree on, computed anew from the union of all logs.

Independent of the code under test: headers are read with msgpack alone, nothing is incremental, and
order of arrival plays no part.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgpack

from tests.simulation.watch import merge_oracle

PUT: Final = 0
DELETE: Final = 1
MERGE: Final = 2
Id = tuple[str, int]
Place = tuple[str, str]


class Operation(NamedTuple):
    """An entry of some log."""

    id: Id
    hlc: int
    place: Place
    op: int
    """0 put, 1 delete, 2 merge."""
    parent: Id | None
    hash: bytes
    previous: bytes
    body_sha256: bytes
    header: bytes
    body: str | None
    seen: tuple[Id, ...] = ()
    """Versions named beside the parent."""
    expires: int = 0
    """The moment from which on nobody shows it, in milliseconds; 0: none."""

    def is_past(self, now_ms: int) -> bool:
        """Whether it has expired."""
        return self.op != DELETE and 0 < self.expires <= now_ms


class Logged(NamedTuple):
    """A row of one node's log."""

    lsn: int
    operation: Operation
    applied: bool


class State(NamedTuple):
    """Documents (None: a tombstone) with their versions, and the losers of concurrent writes."""

    documents: dict[Place, tuple[Id, str | None]]
    conflicts: set[tuple[Place, Id]]

    def without_configuration(self) -> State:
        """Without the system collections."""
        return State(
            {place: found for place, found in self.documents.items() if not place[0].startswith("_")},
            {lost for lost in self.conflicts if not lost[0][0].startswith("_")},
        )


def read_operation(header: bytes, body: str | None) -> Operation:
    """An entry of a log."""
    told, seen, expires = _taken_apart(header)
    return Operation(*told, header, body, seen, expires)


@lru_cache(maxsize=16_384)
def _taken_apart(header: bytes) -> tuple[tuple[Any, ...], tuple[Id, ...], int]:
    """The text before and behind the body; the log of every node has the same bytes, at every check."""
    _, origin, seq, hlc, collection, key, op, parent, _, _, digest, previous, *more = msgpack.unpackb(header)
    told = (
        (origin, seq),
        hlc,
        (collection, key),
        op,
        None if parent is None else (parent[0], parent[1]),
        sha256(header).digest(),
        previous,
        digest,
    )
    seen = tuple((named[0], named[1]) for named in more[0]) if more else ()
    return told, seen, dict(more[1]).get(1, 0) if len(more) > 1 else 0


def read_log(connection: sqlite3.Connection, after_lsn: int = 0) -> list[Logged]:
    """Rows of a node's log in its own order."""
    rows = connection.execute(
        "SELECT lsn, header, body, applied FROM _entgldb_oplog WHERE lsn > ? ORDER BY lsn", (after_lsn,)
    ).fetchall()
    return [Logged(lsn, read_operation(header, body), applied == 1) for lsn, header, body, applied in rows]


def recorded(connection: sqlite3.Connection) -> set[Id]:
    """Entries of which a node has the header alone, or has not applied more."""
    rows = connection.execute(
        "SELECT o.name, l.seq FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
        " WHERE l.applied = 0"
    )
    return set(rows.fetchall())


def time_of(connection: sqlite3.Connection, now_ms: int) -> int:
    """The time that a node has acted upon: ``now_ms``, or later, since it has hidden what expires then."""
    (latest,) = connection.execute(
        "SELECT ifnull(max(expires), 0) FROM _entgldb_documents WHERE body IS NULL"
    ).fetchone()
    return max(now_ms, int(latest))


def read_state(connection: sqlite3.Connection, merged: Collection[Place] = (), now_ms: int = 0) -> State:
    """The state that a node shows; documents of ``merged`` places in the one form of ``fold``.

    Without what has expired at ``now_ms`` and is still to be hidden.
    """
    documents = connection.execute(
        "SELECT d.collection, d.key, o.name, d.seq, CASE WHEN d.expires <= ? THEN NULL ELSE d.body END"
        " FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
        # what no entry has deleted says so to feeds alone
        " WHERE d.body IS NOT NULL OR d.hlc > 0",
        (now_ms,),
    ).fetchall()
    conflicts = connection.execute(
        "SELECT c.collection, c.key, o.name, c.seq FROM _entgldb_conflicts c"
        " JOIN _entgldb_origins o ON o.id = c.origin WHERE ifnull(c.expires, ?1 + 1) > ?1",
        (now_ms,),
    ).fetchall()
    return State(
        {
            (collection, key): ((origin, seq), _in_one_form(body) if (collection, key) in merged else body)
            for collection, key, origin, seq, body in documents
        },
        {((collection, key), (origin, seq)) for collection, key, origin, seq in conflicts},
    )


def still_to_hide(connection: sqlite3.Connection, now_ms: int) -> set[Place]:
    """Places whose document has expired and is in the file yet.

    A change below it that nobody has replaced becomes a conflict when it is hidden.
    """
    rows = connection.execute(
        "SELECT collection, key FROM _entgldb_documents WHERE expires <= ? AND body IS NOT NULL", (now_ms,)
    )
    return set(rows.fetchall())


def count_conflicts(connection: sqlite3.Connection) -> int:
    """How many losers a node lists."""
    (count,) = connection.execute("SELECT count(*) FROM _entgldb_conflicts").fetchone()
    return int(count)


def count_expired(connection: sqlite3.Connection) -> int:
    """How many rows show nothing because their moment has passed."""
    (count,) = connection.execute(
        "SELECT count(*) FROM _entgldb_documents WHERE body IS NULL AND expires IS NOT NULL"
    ).fetchone()
    return int(count)


def quarantined(connection: sqlite3.Connection) -> list[Id]:
    """Entries that could not be applied and are to be tried again."""
    return connection.execute(
        "SELECT o.name, q.seq FROM _entgldb_quarantine q JOIN _entgldb_origins o ON o.id = q.origin"
    ).fetchall()


def tombstones(connection: sqlite3.Connection) -> dict[Place, Id]:
    """Deleted keys that are still remembered, and the versions that deleted them."""
    rows = connection.execute(
        "SELECT d.collection, d.key, o.name, d.seq FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.body IS NULL"
    )
    return {(collection, key): (origin, seq) for collection, key, origin, seq in rows}


def places(connection: sqlite3.Connection, wanted: Iterable[Place]) -> set[Place]:
    """Those of ``wanted`` that have a row."""
    query = "SELECT 1 FROM _entgldb_documents WHERE collection = ? AND key = ?"
    return {place for place in wanted if connection.execute(query, place).fetchone() is not None}


def merged_places(operations: Iterable[Operation]) -> set[Place]:
    """The places at which at least one operation is a merge."""
    return {one.place for one in operations if one.op == MERGE}


def fold(operations: Iterable[Operation], now_ms: int = 0) -> State:
    """The greatest (clock, origin) of a key wins; other puts that nobody has replaced are conflicts.

    ``merge_oracle`` computes the documents whose fields were merged. What has expired is not shown.
    """
    every = list(operations)
    merged = merged_places(every)
    whole = [one for one in every if one.place not in merged]
    replaced = {version for one in whole for version in (one.parent, *one.seen) if version is not None}
    winners: dict[Place, Operation] = {}
    for one in whole:
        best = winners.get(one.place)
        if best is None or (one.hlc, one.id[0]) > (best.hlc, best.id[0]):
            winners[one.place] = one
    conflicts = {
        (one.place, one.id)
        for one in whole
        if one.op == PUT and one.id not in replaced and winners[one.place].id != one.id
        if not one.is_past(now_ms)
    }
    documents = {
        place: (one.id, None if one.op == DELETE or one.is_past(now_ms) else one.body)
        for place, one in winners.items()
    }
    for place in merged:
        found = merge_oracle.outcome((_step(one) for one in every if one.place == place), now_ms)
        text = None if found.document is None else json.dumps(found.document)
        documents[place] = (found.newest, _in_one_form(text))
        conflicts |= {(place, version) for version in found.conflicts}
    return State(documents, conflicts)


def _step(one: Operation) -> merge_oracle.Step:
    return merge_oracle.Step(one.id, one.hlc, one.op, one.parent, one.body, one.seen, one.expires)


def _in_one_form(body: str | None) -> str | None:
    return None if body is None else json.dumps(json.loads(body), sort_keys=True)
