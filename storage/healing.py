"""Ending a fork: one branch of an origin's log stays, the other is taken out and kept as versions that lost.

Two branches use the same numbers, so they cannot both stand in one log. What the other branch wrote last to
each key is put into a log of its own, under a new origin and with the smallest clocks there are: wherever
the key has another version it loses, and everybody lists it as a conflict; where there is none it stays.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from entgldb.messages.model import SYSTEM_PREFIX, Origin
from entgldb.storage.batch import Batch
from entgldb.storage.merge_healing import refold_merged
from entgldb.storage.rules.fields import Stamp
from entgldb.storage.rules.header import DELETE, MERGE, PUT, Header, decode, digest, encode
from entgldb.storage.rules.merge import Head
from entgldb.storage.rules.merged import read_merging
from entgldb.storage.state import State
from entgldb.storage.unfit import APPLIED


class Logged(NamedTuple):
    """An applied entry of the log, or the row of a document whose entry is pruned."""

    hlc: int
    origin: Origin
    seq: int
    lsn: int
    body: str | None
    parent: tuple[Origin, int] | None


def branch(connection: sqlite3.Connection, origin: Origin, keep: str) -> tuple[int, bytes] | None:
    """An entry that tells the branch to keep, ``ours`` or ``theirs``, from the other; None without a fork."""
    row = connection.execute(
        "SELECT f.seq, f.ours, f.theirs FROM _entgldb_forks f JOIN _entgldb_origins o ON o.id = f.origin"
        " WHERE o.name = ? AND o.quarantined = 1 ORDER BY f.seq, f.id LIMIT 1",
        (origin,),
    ).fetchone()
    if row is None:
        return None
    raw = row[1] if keep == "ours" else row[2]
    return (decode(raw).seq, digest(raw)) if raw else None


def cut(connection: sqlite3.Connection, state: State, origin: Origin, seq: int, kept: bytes) -> int:
    """First seq to take out so that the branch with entry ``kept`` at ``seq`` can stay; 0: nothing."""
    known = state.origins.get(origin)
    if known is None or seq <= known.floor:
        return 0
    number, head, floor = known
    row = connection.execute(
        "SELECT hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (number, seq)
    ).fetchone()
    if row is not None:
        return 0 if row[0] == kept else seq
    if not head.quarantined or head.seq <= floor:
        return 0
    # the branches part earlier than the entry we know them by: go back one by one until they meet
    proofs = connection.execute(
        "SELECT theirs FROM _entgldb_forks WHERE origin = ? AND seq = ?", (number, head.seq + 1)
    )
    apart = any(decode(raw).prev_hash != head.hash for (raw,) in proofs.fetchall() if raw)
    return head.seq if apart else 0


def release(state: State, origin: Origin) -> None:
    """What we have is the branch to keep, as far as it goes: take the origin's entries again."""
    known = state.origins.get(origin)
    if known is not None and known.head.quarantined:
        state.move(origin, known.head._replace(quarantined=False))


def take_out(batch: Batch, origin: Origin, first: int) -> list[tuple[str, str, str]]:
    """Remove the entries of ``origin`` from ``first`` on; what they last put to each key."""
    connection, state = batch.connection, batch.state
    number = state.origins[origin].number
    rows = connection.execute(
        "SELECT header, body, applied FROM _entgldb_oplog WHERE origin = ? AND seq >= ? ORDER BY seq",
        (number, first),
    ).fetchall()
    headers = [decode(raw) for raw, _, _ in rows]
    last = {
        (h.collection, h.key): row[1] if h.op != MERGE else batch.text(h.collection, h.key)
        for h, row in zip(headers, rows, strict=True)
        if row[2] == APPLIED
    }
    for table in ("_entgldb_oplog", "_entgldb_held"):
        connection.execute(f"DELETE FROM {table} WHERE origin = ? AND seq >= ?", (number, first))  # noqa: S608 -- constants
    state.entries -= len(rows)
    state.held.pop(origin, None)
    connection.execute("DELETE FROM _entgldb_held WHERE origin = ?", (number,))
    state.move(origin, Head(first - 1, headers[0].prev_hash))
    dropped = (number, first)
    state.conflicts -= connection.execute(
        "DELETE FROM _entgldb_conflicts WHERE origin = ? AND seq >= ?", dropped
    ).rowcount
    stamps = frozenset((header.hlc, origin) for header in headers) | _written_over(rows)
    _refold(batch, set(last), dropped, stamps)
    return [
        (collection, key, body)
        for (collection, key), body in last.items()
        if body is not None and not collection.startswith(SYSTEM_PREFIX)
    ]


def _written_over(rows: list[tuple[bytes, str | None, int]]) -> frozenset[Stamp]:
    """Deletes on whose ruins merges were written: what those hid shows again without them."""
    found = set[Stamp]()
    for raw, body, applied in rows:
        header = decode(raw)
        if header.op == MERGE and applied == APPLIED and body is not None:
            over = read_merging(body, (header.hlc, header.origin)).over
            if over is not None:
                found.add(over)
    return frozenset(found)


def is_shown(connection: sqlite3.Connection, document: tuple[str, str, str]) -> bool:
    """Whether somebody has put the same body beside or in the place of it already."""
    row = connection.execute(
        "SELECT 1 FROM _entgldb_documents WHERE collection = ?1 AND key = ?2 AND body = ?3 UNION ALL"
        " SELECT 1 FROM _entgldb_conflicts WHERE collection = ?1 AND key = ?2 AND body = ?3",
        document,
    ).fetchone()
    return row is not None


def as_versions_that_lost(
    origin: Origin, documents: list[tuple[str, str, str]]
) -> list[tuple[Header, bytes, str]]:
    """A log of ``origin`` that puts ``documents`` with the smallest clocks: headers, their bytes, bodies."""
    made: list[tuple[Header, bytes, str]] = []
    previous = b""
    for seq, (collection, key, body) in enumerate(documents, 1):
        header = Header(origin, seq, seq, collection, key, PUT, None, 0, 1, digest(body.encode()), previous)
        raw = encode(header)
        previous = digest(raw)
        made.append((header, raw, body))
    return made


def _refold(
    batch: Batch, places: set[tuple[str, str]], dropped: tuple[int, int], stamps: frozenset[Stamp]
) -> None:
    """Documents and conflicts of some keys anew, from what is left of the log."""
    connection = batch.connection
    connection.execute("CREATE TEMP TABLE touched (collection, key, PRIMARY KEY (collection, key))")
    connection.executemany("INSERT INTO touched VALUES (?, ?)", sorted(places))
    left: dict[tuple[str, str], list[Logged]] = {place: [] for place in places}
    entries: dict[tuple[str, str], list[tuple[Header, str | None]]] = {place: [] for place in places}
    rows = connection.execute(
        "SELECT l.lsn, o.name, l.header, l.body FROM _entgldb_oplog l JOIN touched t"
        " ON t.collection = l.collection AND t.key = l.key JOIN _entgldb_origins o ON o.id = l.origin"
        " WHERE l.applied = ?",
        (APPLIED,),
    )
    for lsn, name, raw, body in rows:
        header = decode(raw)
        text = None if header.op == DELETE else body
        entries[header.collection, header.key].append((header, text))
        left[header.collection, header.key].append(
            Logged(header.hlc, name, header.seq, lsn, text, header.parent)
        )
    connection.execute("DROP TABLE touched")
    for place in sorted(places):
        merged = batch.current(*place)
        if (merged and merged.merged) or any(header.op == MERGE for header, _ in entries[place]):
            refold_merged(batch, place, entries[place], stamps, max(hlc for hlc, _ in stamps) >> 16)
        else:
            _refold_key(batch, place, left[place], dropped)


def _refold_key(
    batch: Batch, place: tuple[str, str], versions: list[Logged], dropped: tuple[int, int]
) -> None:
    connection, state = batch.connection, batch.state
    current = connection.execute(
        "SELECT d.hlc, o.name, d.seq, d.lsn, d.body, d.origin, d.stamps IS NOT NULL FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ?",
        place,
    ).fetchone()
    if current is None or current[6]:
        return
    if (current[5], dropped[1]) != (dropped[0], min(current[2], dropped[1])):
        # not of the dropped branch: it may stand for entries that are pruned
        hlc, name, seq, lsn, body = current[:5]
        versions = [*versions, Logged(hlc, name, seq, lsn, body, None)]
    winner = max(versions, key=lambda one: (one.hlc, one.origin), default=None)
    state.documents -= current[4] is not None
    if winner is None:
        connection.execute("DELETE FROM _entgldb_documents WHERE collection = ? AND key = ?", place)
        return
    state.documents += winner.body is not None
    sha = None if winner.body is None else digest(winner.body.encode())
    number = state.origins[winner.origin].number
    connection.execute(
        "UPDATE _entgldb_documents SET body = ?, origin = ?, seq = ?, hlc = ?, lsn = ?, sha256 = ?"
        " WHERE collection = ? AND key = ?",
        (winner.body, number, winner.seq, winner.hlc, winner.lsn, sha, *place),
    )
    # what had been shown as overtaken by the dropped branch may be the document again
    state.conflicts -= connection.execute(
        "DELETE FROM _entgldb_conflicts WHERE origin = ? AND seq = ?", (number, winner.seq)
    ).rowcount
    replaced = {one.parent for one in versions if one.parent is not None}
    for one in versions:
        lost = one.body is not None and (one.origin, one.seq) not in replaced
        if lost and (one.origin, one.seq) != (winner.origin, winner.seq):
            state.conflicts += connection.execute(
                "INSERT OR IGNORE INTO _entgldb_conflicts (origin, seq, hlc, collection, key, body, found_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (state.origins[one.origin].number, one.seq, one.hlc, *place, one.body, one.hlc >> 16),
            ).rowcount
