"""Making the file smaller: log rows that nobody needs any more, and tombstones that can meet no old put.

Both go in steps, each in a transaction of its own, so that a writer waits for one step at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Final

import msgpack

from entgldb.messages.limits import PACK_BYTES
from entgldb.messages.local.members import Collected, Prune, Pruned
from entgldb.messages.model import SYSTEM_PREFIX, Origin
from entgldb.storage.file.state import State
from entgldb.storage.log.recorded import has_recorded, mark_partial, seen
from entgldb.storage.rules.vector import seqs

STEP_ROWS: Final = 2_000
"""Rows deleted in one transaction: some 20 ms."""
STEP_BYTES: Final = 16 * 1024 * 1024
"""Bytes of the rows deleted in one transaction; a larger row goes by itself."""
_UNAPPLIED: Final = (
    "SELECT min(seq) FROM (SELECT seq FROM _entgldb_oplog INDEXED BY _entgldb_oplog_unapplied"
    " WHERE applied = 0 AND origin = ? UNION ALL"
    " SELECT seq FROM _entgldb_oplog INDEXED BY _entgldb_oplog_unfit WHERE applied = 2 AND origin = ?)"
)
_LogRow = tuple[int, int, int, int]
"""Lsn, seq, stamp and size."""


class _Room:
    """The room that one step of deleting has left."""

    def __init__(self) -> None:
        self.taken = 0
        """Rows so far."""
        self.full = False
        self._bytes = STEP_BYTES

    def admits(self, size: int) -> bool:
        """Whether a row of ``size`` bytes goes in this step; the first always does."""
        if self.full or (self.taken and size > self._bytes):
            self.full = True
            return False
        self.taken += 1
        self._bytes -= size
        self.full = self.taken == STEP_ROWS
        return True


def prune(connection: sqlite3.Connection, state: State, order: Prune) -> Pruned:
    """Delete the oldest rows of each origin as far as ``order`` allows, and raise the floors.

    Rows of one origin go without a gap, in the order of their numbers, which is their order in the log too.
    """
    _mark(connection, state, order.mark_ms)
    _forget_marks(connection, order.aged_ms)
    room = _Room()
    order = _spare_quarantined(connection, state, order)
    for origin, bound in sorted(order.aged.items()):
        _prune_origin(connection, state, origin, bound, room)
        if room.full:
            return Pruned(room.taken, more=True)
    if state.log_bytes > order.bytes_max:
        before = room.taken
        _prune_oldest(connection, state, order, room)
        # a step that found nothing stable among the oldest rows is not made again at once
        return Pruned(room.taken, more=room.taken > before and state.log_bytes > order.bytes_max)
    return Pruned(room.taken, more=False)


def prunable(
    connection: sqlite3.Connection, state: State, bounds: Mapping[Origin, int]
) -> Mapping[Origin, int]:
    """Of ``bounds`` those behind the floor, each moved before the first entry that is not applied."""
    found = {}
    for origin, bound in sorted(bounds.items()):
        number, _, floor, _ = state.origins[origin]
        (first,) = connection.execute(_UNAPPLIED, (number, number)).fetchone()
        last = bound if first is None else min(bound, first - 1)
        if last > floor:
            found[origin] = last
    return found


def prune_covered(connection: sqlite3.Connection, state: State, bounds: Mapping[Origin, int]) -> None:
    """Delete some of the oldest rows, up to the ``bounds`` that ``prunable`` told."""
    room = _Room()
    for origin, bound in bounds.items():
        if not room.full:
            _prune_origin(connection, state, origin, bound, room)


def collect(
    connection: sqlite3.Connection, state: State, frontier: Mapping[Origin, int], after_lsn: int
) -> Collected:
    """Remove tombstones whose version is within ``frontier`` and whose log row is pruned.

    Tombstones of system collections stay for good: a document that was once removed stays removed. Nothing
    goes while an entry is in quarantine: it may be applied one day, and must then meet the delete it was
    concurrent with.
    """
    if state.unfit:
        return Collected(0, after_lsn, more=False, waits=True)
    rows = connection.execute(
        "SELECT d.id, d.lsn, o.name, d.seq, d.collection, d.hlc, coalesce(length(d.stamps), 0)"
        " FROM _entgldb_documents d INDEXED BY _entgldb_tombstones CROSS JOIN _entgldb_origins o"
        " ON o.id = d.origin WHERE d.body IS NULL AND d.lsn > ? AND d.lsn <= ? ORDER BY d.lsn LIMIT ?",
        (after_lsn, state.pruned_lsn, STEP_ROWS),
    ).fetchall()
    room, gone = _Room(), list[tuple[int, int, int]]()
    for number, lsn, origin, seq, collection, hlc, size in rows:
        known = seq <= min(frontier.get(origin, 0), state.origins[origin].floor)
        if known and not collection.startswith(SYSTEM_PREFIX):
            if not room.admits(size):
                break
            gone.append((number, lsn, hlc))
        after_lsn = lsn
    connection.executemany(
        "DELETE FROM _entgldb_documents WHERE id = ?", [(number,) for number, _, _ in gone]
    )
    if gone:
        state.collected_lsn = max(state.collected_lsn, gone[-1][1])
        state.collected_hlc = max(state.collected_hlc, *(hlc for _, _, hlc in gone))
    return Collected(len(gone), after_lsn, more=room.full or len(rows) == STEP_ROWS)


def _spare_quarantined(connection: sqlite3.Connection, state: State, order: Prune) -> Prune:
    """An entry that is to be tried again, and what follows it in its log, stays.

    So do those before it that it has ended, unfit like it: whoever ends it ends all that they name.
    """
    if not state.unfit:
        return order
    first = connection.execute(
        "SELECT o.name, min(l.seq) FROM _entgldb_oplog l INDEXED BY _entgldb_oplog_unfit"
        " CROSS JOIN _entgldb_origins o ON o.id = l.origin WHERE l.applied = 2"
        " AND (l.collection, l.key) IN (SELECT collection, key FROM _entgldb_quarantine) GROUP BY o.name"
    ).fetchall()
    aged, stable = dict(order.aged), dict(order.stable)
    for origin, seq in first:
        for bounds in (aged, stable):
            if origin in bounds:
                bounds[origin] = min(bounds[origin], seq - 1)
    return replace(order, aged=aged, stable=stable)


def _mark(connection: sqlite3.Connection, state: State, apart_ms: int) -> None:
    (last,) = connection.execute("SELECT max(at_ms) FROM _entgldb_marks").fetchone()
    if last is None or state.lived_ms - last >= apart_ms:
        packed = msgpack.packb(seqs(state.vector()), buf_size=PACK_BYTES)
        connection.execute("INSERT OR REPLACE INTO _entgldb_marks VALUES (?, ?)", (state.lived_ms, packed))


def _forget_marks(connection: sqlite3.Connection, before_ms: int) -> None:
    """Keep of the marks older than ``before_ms`` only the latest."""
    connection.execute(
        "DELETE FROM _entgldb_marks WHERE at_ms < (SELECT max(at_ms) FROM _entgldb_marks WHERE at_ms <= ?)",
        (before_ms,),
    )


def _prune_origin(
    connection: sqlite3.Connection, state: State, origin: Origin, bound: int, room: _Room
) -> None:
    known = state.origins.get(origin)
    if known is None or min(bound, known.head.seq) <= known.floor:
        return
    rows = connection.execute(
        "SELECT lsn, seq, hlc, length(header) + coalesce(length(body), 0) FROM _entgldb_oplog"
        " WHERE origin = ? AND seq <= ? ORDER BY seq LIMIT ?",
        (known.number, min(bound, known.head.seq), STEP_ROWS),
    ).fetchall()
    _delete(connection, state, origin, list(takewhile(lambda row: room.admits(row[3]), rows)))


def _prune_oldest(connection: sqlite3.Connection, state: State, order: Prune, room: _Room) -> None:
    """The oldest rows until the log is small enough, as far as they are stable."""
    excess = state.log_bytes - order.bytes_max
    names = {known.number: origin for origin, known in state.origins.items()}
    found: dict[Origin, list[_LogRow]] = {}
    for lsn, number, seq, hlc, size in connection.execute(
        "SELECT lsn, origin, seq, hlc, length(header) + coalesce(length(body), 0) FROM _entgldb_oplog"
        " ORDER BY lsn LIMIT ?",
        (STEP_ROWS - room.taken,),
    ).fetchall():
        origin = names[number]
        if seq <= order.stable.get(origin, 0):
            if excess <= 0 or not room.admits(size):
                break
            found.setdefault(origin, []).append((lsn, seq, hlc, size))
            excess -= size
    for origin, rows in sorted(found.items()):
        _delete(connection, state, origin, rows)


def _delete(connection: sqlite3.Connection, state: State, origin: Origin, rows: list[_LogRow]) -> None:
    """Delete rows at the beginning of an origin's log."""
    if not rows:
        return
    lsn, seq, hlc, _ = rows[-1]
    if has_recorded(connection, state.origins[origin].number, seq):
        heads = {o: seq for o, seq in seqs(state.vector()).items() if o != state.own}
        mark_partial(connection, seen(connection, heads), heads)
    connection.executemany("DELETE FROM _entgldb_oplog WHERE lsn = ?", [(lsn,) for lsn, *_ in rows])
    state.raise_floor(origin, seq, hlc)
    state.pruned_lsn = max(state.pruned_lsn, lsn)
    state.entries -= len(rows)
    state.log_bytes = max(0, state.log_bytes - sum(size for *_, size in rows)) if state.entries else 0
