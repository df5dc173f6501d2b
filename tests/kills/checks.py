"""The truths that must hold of a file whose store was killed, whatever it was in the middle of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from entgldb.messages.errors import NotFoundError
from entgldb.storage.recovery.check import Checkup
from tests.simulation.watch import oracle
from tests.simulation.watch.oracle import Logged


@dataclass
class Promised:
    """All that was promised by the lives of one directory."""

    writes: dict[tuple[str, int], str] = field(default_factory=dict)
    """(origin, seq) -> SHA-256 of the body; empty for a delete."""
    applied: dict[str, int] = field(default_factory=dict)
    """Origin -> seq that a peer was told is here."""
    unanswered: list[str] = field(default_factory=list)


def violations(directory: Path, promised: Promised, *, plain: bool) -> list[str]:
    """Every promise that the file breaks."""
    try:
        checkup = Checkup.open(directory)
    except NotFoundError:
        # killed before it was made to its end
        return ["the file is gone"] if promised.writes else []
    with closing(checkup):
        found = [f"verify: {finding}" for finding in checkup.run()]
    with closing(sqlite3.connect(f"file:{directory / 'entgldb.db'}?mode=ro", uri=True)) as connection:
        log = oracle.read_log(connection)
        floors = dict(connection.execute("SELECT name, floor FROM _entgldb_origins WHERE floor > 0"))
        found += _sound(connection)
        found += _kept(log, promised, floors)
        found += _chains(log, floors)
        found += _heads(connection, log, floors)
        found += _remembered(connection, log) if floors else _documents(connection, log, plain=plain)
        found += _counters(connection, log, floors)
    return found


def _sound(connection: sqlite3.Connection) -> Iterator[str]:
    said = connection.execute("PRAGMA quick_check(3)").fetchall()
    if said != [("ok",)]:
        yield f"the file is damaged: {said}"


def _kept(log: list[Logged], promised: Promised, floors: dict[str, int]) -> Iterator[str]:
    here = {row.operation.id: row.operation for row in log}
    for place, digest in promised.writes.items():
        one = here.get(place)
        if one is None and place[1] <= floors.get(place[0], 0):
            continue  # pruned: by then it was in the documents, or had been replaced there
        if one is None:
            yield f"the acknowledged write {place} is lost"
        elif one.body_sha256.hex() != digest:
            yield f"the acknowledged write {place} has another body"
    seen: dict[str, tuple[str, int]] = {}
    for one in here.values():
        if one.body is not None and "uid" in one.body and seen.setdefault(one.body, one.id) != one.id:
            yield f"{one.id} was written twice, first as {seen[one.body]}"
    last: dict[str, int] = {}
    for origin, seq in here:
        last[origin] = max(seq, last.get(origin, 0))
    for origin, seq in promised.applied.items():
        if max(last.get(origin, 0), floors.get(origin, 0)) < seq:
            yield f"{origin} is here up to {last.get(origin, 0)}, a peer was told {seq}"


def _chains(log: list[Logged], floors: dict[str, int]) -> Iterator[str]:
    heads: dict[str, oracle.Operation] = {}
    for row in log:
        one, before = row.operation, heads.get(row.operation.id[0])
        floor = floors.get(one.id[0], 0)
        if one.id[1] != (floor if before is None else before.id[1]) + 1:
            yield f"{one.id} follows {before and before.id}"
        if one.previous != (b"" if before is None else before.hash) and (before or not floor):
            yield f"the chain breaks at {one.id}"
        if before is not None and one.hlc <= before.hlc:
            yield f"the clock does not grow at {one.id}"
        heads[one.id[0]] = one


def _heads(connection: sqlite3.Connection, log: list[Logged], floors: dict[str, int]) -> Iterator[str]:
    wanted = {row.operation.id[0]: (row.operation.id[1], row.operation.hash) for row in log}
    rows = connection.execute("SELECT name, seq, head FROM _entgldb_heads WHERE seq > 0")
    found = {name: (seq, head) for name, seq, head in rows if seq > floors.get(name, 0)}
    if found != wanted:
        yield f"the vector is not that of the log: {set(found.items()) ^ set(wanted.items())}"
    held = connection.execute(
        "SELECT o.name, o.seq, min(h.seq), max(h.seq), count(*) FROM _entgldb_held h"
        " JOIN _entgldb_heads o ON o.id = h.origin GROUP BY h.origin"
    )
    for name, head, first, last, count in held:
        if first != head + 1 or count != last - first + 1:
            yield f"what is held of {name} does not follow its log: {first}..{last}, {count} after {head}"


def _documents(connection: sqlite3.Connection, log: list[Logged], *, plain: bool) -> Iterator[str]:
    applied = [row.operation for row in log if row.applied]
    now_ms = oracle.time_of(connection, 0)
    wanted = oracle.fold(applied, now_ms)
    found = oracle.read_state(connection, oracle.merged_places(applied), now_ms)
    if wanted.documents != found.documents:
        yield f"documents are not what the log says: {set(wanted.documents) ^ set(found.documents)}"
    # when a loser expired nobody can tell that lists none that has
    expiring = {one.id for one in applied if one.expires}
    if plain and (differing := {one for one in wanted.conflicts ^ found.conflicts if one[1] not in expiring}):
        yield f"conflicts are not what the log says: {differing}"


def _remembered(connection: sqlite3.Connection, log: list[Logged]) -> Iterator[str]:
    """With a pruned log: of what is left of it, no document shows less.

    Not above what was collected, for the peers of these lives, unlike real ones, write older puts even then.
    """
    (collected,) = connection.execute("SELECT collected_hlc FROM _entgldb_state").fetchone()
    now_ms = oracle.time_of(connection, 0)
    wanted = oracle.fold((row.operation for row in log if row.applied), now_ms).documents
    found = oracle.read_state(connection, now_ms=now_ms).documents
    rows = connection.execute("SELECT collection, key, hlc FROM _entgldb_documents").fetchall()
    shown = {(collection, key): hlc for collection, key, hlc in rows}
    stamps = {row.operation.id: row.operation.hlc for row in log}
    for place, (version, body) in wanted.items():
        if place in found and found[place][0] == version and found[place][1] != body:
            yield f"{place} is not what {version} says"
        if stamps[version] > collected and shown.get(place, 0) < stamps[version]:
            yield f"{place} is gone, or older than {version}, which is in the log"


def _counters(connection: sqlite3.Connection, log: list[Logged], floors: dict[str, int]) -> Iterator[str]:
    clock, lsn, documents, entries, conflicts = connection.execute(
        "SELECT clock, lsn, documents, entries, conflicts FROM _entgldb_now"
    ).fetchone()
    (live,) = connection.execute("SELECT count(*) FROM _entgldb_documents WHERE body IS NOT NULL").fetchone()
    newest = max(log[-1].lsn if log else 0, lsn)
    wanted = (newest, live, len(log), oracle.count_conflicts(connection))
    if (lsn, documents, entries, conflicts) != wanted:
        found = (lsn, documents, entries, conflicts)
        yield f"counters (lsn, documents, entries, conflicts) are {found}, not {wanted}"
    if log and clock < max(row.operation.hlc for row in log):
        yield "the clock is behind what it has stamped or taken"
    unfit = connection.execute(
        "SELECT count(*) FROM _entgldb_quarantine q LEFT JOIN _entgldb_oplog l"
        " ON l.origin = q.origin AND l.seq = q.seq WHERE l.applied IS NOT 2"
    ).fetchone()[0]
    if unfit:
        yield f"{unfit} entries in quarantine are not in the log as such"
