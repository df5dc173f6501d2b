"""A damaged file is set aside and begun anew; the node's own writes that nobody else has are carried over.

The peers have the rest. Of the damaged log every row is read that can be, found by halving the ranges that
cannot; a row counts when its header has the hash it was recorded with and its body the digest that one names.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import EntglError, NotFoundError, ProtocolError
from entgldb.messages.limits import INDEXES_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Origin, node_of
from entgldb.storage.authorship.authors import CAS
from entgldb.storage.file import swap
from entgldb.storage.file.open import FILE, open_damaged
from entgldb.storage.log.read import PINNED
from entgldb.storage.recovery.anew import begun_anew
from entgldb.storage.repair.lost_writes import LANDMARK
from entgldb.storage.repair.salvaged import Row, carried_over, carry_over, waiting
from entgldb.storage.rules.authorship import cluster_of
from entgldb.storage.rules.header import DELETE, PUT, Header, decode, digest
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.rules.indexing.definition import read_definition
from entgldb.storage.store import Store

_PAGE: Final = 1_000
"""Rows read and written in one go, or fewer where they are large."""
_PAGE_BYTES: Final = 16 * 1024 * 1024
_DARK: Final = 100_000
"""Numbers in a row of which none can be read; behind them the search leaps. A damaged page may be one that
has two rows whose numbers lie billions apart."""
_COLUMNS: Final = "SELECT lsn, hash, header, CAST(body AS BLOB) FROM _entgldb_oplog"


class Rebuilt(NamedTuple):
    """The result of rebuilding a damaged file."""

    set_aside: str
    salvaged: int
    """Own entries that were read whole; those that peers lack are written again after the first sync."""
    unreadable: int
    """Rows of the log that could not be read, or are not what they were; at most so many where a page cannot
    be read that has numbers far apart."""


def rebuild(directory: Path, node_id: str, now_ms: int) -> Rebuilt:
    """Begin the database of a node anew. The caller holds the directory's lock. Raises EntglError.

    It is made beside the damaged one and then takes its place: a run that was cut short has changed nothing,
    or is completed by the next, which tells the same.
    """
    cut = swap.complete(directory)
    if cut is not None:
        return Rebuilt(cut.aside, cut.facts.get("salvaged", 0), cut.facts.get("unreadable", 0))
    if not (directory / FILE).exists():
        raise NotFoundError(f"there is no {FILE} in {directory}", hint="start the node without --rebuild")
    with swap.preparing(directory, _own_bytes(directory, node_id)) as part:
        salvaged, unreadable = _prepare(directory, part, node_id, now_ms)
        aside = swap.free_name(directory, "corrupt", now_ms)
        swap.install(directory, swap.Swap(aside, {"salvaged": salvaged, "unreadable": unreadable}))
    return Rebuilt(aside, salvaged, unreadable)


def _own_bytes(directory: Path, node_id: str) -> int:
    """Bytes of what is to be carried over; 0 where damage lets nobody count."""
    own = "origin IN (SELECT id FROM _entgldb_origins WHERE name GLOB ?)"
    found = 0
    with contextlib.suppress(EntglError, sqlite3.Error), closing(open_damaged(directory)) as damaged:
        for source, *given in ((f"_entgldb_oplog WHERE {own}", f"{node_id}/*"), ("_entgldb_salvaged",)):
            sql = f"SELECT ifnull(sum(length(header) + ifnull(length(body), 0)), 0) FROM {source}"  # noqa: S608 -- constants
            found += damaged.execute(sql, given).fetchone()[0]
    # a damaged row may be of any length, by its own word
    return min(found, (directory / FILE).stat().st_size)


def _prepare(directory: Path, part: Path, node_id: str, now_ms: int) -> tuple[int, int]:
    """The new database in ``part``; how many own entries it keeps, how many rows could not be read."""
    with begun_anew(part, directory, node_id, Why.REBUILT, now_ms) as store:
        unreadable = _carry_over(directory, store, node_id)
        return waiting(store.connection), unreadable


def _carry_over(directory: Path, store: Store, node_id: str) -> int:
    """Carry the readable entries over, page by page; return how many rows could not be read."""
    try:
        damaged = open_damaged(directory)
    except EntglError:
        return 0
    log = _Log(node_id)
    with closing(damaged):
        for source in (map(log.carried, _rows(damaged)), _waiting(damaged)):
            rows = chain.from_iterable(source)
            while page := _page(rows):
                with store.group():
                    store.state.clock = max(store.state.clock, *(hlc for _, _, hlc, _, _ in page))
                    carry_over(store.connection, page)
        _carry_over_peers(damaged, store)
        _carry_over_cluster(damaged, store)
        _carry_over_indexes(damaged, store)
    return log.unreadable


class _Log:
    """The walk over the rows of a damaged log."""

    def __init__(self, node_id: str) -> None:
        self.unreadable = 0
        """Rows that could not be read, or are not what they were."""
        self._node_id = node_id
        self._ends = dict[Origin, int]()
        """The last entry of each own log that was read."""
        self._whole = True
        """Whether all rows could be read until now."""

    def carried(self, row: tuple[Any, ...] | None) -> Iterator[Row]:
        """The part of a row that is to be carried over: a write, or a landmark of its log, or nothing."""
        entry = None if row is None else _entry(*row)
        if entry is None:
            self.unreadable += 1
            self._whole = False
            return
        header, raw, body, whole = entry
        self.unreadable += not whole
        origin, seq = header.origin, header.seq
        if node_of(origin) != self._node_id:
            return
        if not self._whole and seq > 1 and seq - 1 != self._ends.get(origin):
            # a run may have begun with it
            yield origin, seq - 1, LANDMARK, b"", None
        self._ends[origin] = seq
        if whole and not header.collection.startswith(SYSTEM_PREFIX):
            yield origin, seq, header.hlc, raw, body
        elif header.begins:
            yield origin, seq, LANDMARK, raw, None


def _carry_over_peers(damaged: sqlite3.Connection, store: Store) -> None:
    """The addresses at which others were reached; those that are read before damage is met."""
    found: list[tuple[str, str, int]] = []
    with contextlib.suppress(sqlite3.Error):
        found += damaged.execute(
            "SELECT node_id, address, seen_ms FROM _entgldb_peers WHERE typeof(node_id) = 'text'"
            " AND typeof(address) = 'text' AND typeof(seen_ms) = 'integer' LIMIT ?",
            (_PAGE,),
        )
    # whatever a group meets ends it: the damaged file is not read in one
    with store.group():
        for peer in found:
            store.remember_peer(*peer)


def _carry_over_cluster(damaged: sqlite3.Connection, store: Store) -> None:
    """The cluster that a cloud node serves, and its CAs: whoever came first would be served instead. Each
    value is to agree with a name made of it."""
    found: list[tuple[str, Any]] = []
    with contextlib.suppress(sqlite3.Error):
        found += damaged.execute(
            "SELECT name, value FROM _entgldb_meta WHERE name = ? OR (name >= ? AND name < ?)", (PINNED, *CAS)
        )
    cas = [(name, value) for name, value in found if type(value) is bytes and _is_of(name, value)]
    with contextlib.suppress(KeyError, TypeError, ValueError), store.group():
        cluster, client_id = json.loads(dict(found)[PINNED])
        if any(name == f"{CAS[0]}{cluster}" for name, _ in cas):
            store.pin_cluster(cluster, client_id)
    with store.group():
        store.connection.executemany("INSERT OR IGNORE INTO _entgldb_meta VALUES (?, ?)", cas)


def _is_of(name: str, ca_key: bytes) -> bool:
    return name == f"{CAS[0]}{cluster_of(ca_key)}" or name.endswith(f"/{ca_key.hex()}")


def _carry_over_indexes(damaged: sqlite3.Connection, store: Store) -> None:
    """Indexes of this node alone; those of every node come from the peers."""
    with contextlib.suppress(sqlite3.Error):
        for (text,) in damaged.execute(
            "SELECT definition FROM _entgldb_indexes WHERE NOT everywhere LIMIT ?", (INDEXES_MAX,)
        ).fetchall():
            with contextlib.suppress(EntglError, ValueError), store.group():
                store.indexes.create(read_definition(text))


def _page(rows: Iterator[Row]) -> list[Row]:
    """The next rows; none at the end."""
    page: list[Row] = []
    size = 0
    for row in islice(rows, _PAGE):
        page.append(row)
        size += len(row[4] or b"")
        if size > _PAGE_BYTES:
            break
    return page


def _rows(damaged: sqlite3.Connection) -> Iterator[tuple[Any, ...] | None]:
    """Every row that can be read, and None for each number at which there is one that cannot."""
    last = _last(damaged)
    first = read = 1
    while first <= last:
        there = _next(damaged, first, last)
        if there is not None:
            first = read = there
        elif first - read > _DARK:
            yield None
            first = read = _behind(damaged, first, last)
            continue
        end = min(last, first + _PAGE - 1)
        for row in _range(damaged, first, end):
            read = read if row is None else row[0]
            yield row
        first = end + 1


def _next(damaged: sqlite3.Connection, first: int, last: int) -> int | None:
    """The next number from ``first`` on that has a row: a merge leaves billions between two. None where
    damage lets nobody tell."""
    with contextlib.suppress(sqlite3.Error):
        find = "SELECT min(lsn) FROM _entgldb_oplog WHERE lsn >= ?"
        (there,) = damaged.execute(find, (first,)).fetchone()
        if there is not None:
            return max(first, int(there))
        (top,) = damaged.execute("SELECT max(lsn) FROM _entgldb_oplog").fetchone()
        if top is None or top < first:
            return last + 1
    return None


def _behind(damaged: sqlite3.Connection, dark: int, last: int) -> int:
    """The first number behind a page that cannot be read, of which ``dark`` is one."""
    step = _DARK
    while dark + step <= last and _next(damaged, dark + step, last) is None:
        dark, step = dark + step, 2 * step
    light = min(dark + step, last + 1)
    while light - dark > 1:
        middle = (dark + light) // 2
        if _next(damaged, middle, last) is None:
            dark = middle
        else:
            light = middle
    return light


def _waiting(damaged: sqlite3.Connection) -> Iterator[list[Row]]:
    """The entries that an earlier rebuild has carried over, as long as the node has met no peer."""
    with contextlib.suppress(sqlite3.Error):
        for origin, seq, hlc, raw, body in carried_over(damaged):
            # damage may make one thing of another
            if not isinstance(raw, bytes) or (hlc == LANDMARK and (type(origin), type(seq)) != (str, int)):
                continue
            entry = _entry(0, digest(raw), raw, body)
            if hlc == LANDMARK:
                yield [(origin, seq, hlc, raw, None)]
            elif entry is not None and entry[3]:
                header = entry[0]
                yield [(header.origin, header.seq, header.hlc, raw, body)]


def _range(damaged: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Any, ...] | None]:
    try:
        for row in damaged.execute(f"{_COLUMNS} WHERE lsn BETWEEN ? AND ? ORDER BY lsn", (first, last)):
            if row[0] < first:
                raise sqlite3.DatabaseError("rows are out of order")
            first = row[0] + 1
            yield row
    except sqlite3.Error:
        if first >= last:
            yield from _alone(damaged, first) if first == last else ()
            return
        middle = (first + last) // 2
        yield from _range(damaged, first, middle)
        yield from _range(damaged, middle + 1, last)


def _alone(damaged: sqlite3.Connection, number: int) -> list[tuple[Any, ...] | None]:
    """One row, without a look at the next: that may lie on a page that cannot be read."""
    try:
        return list(damaged.execute(f"{_COLUMNS} WHERE lsn = ?", (number,)))
    except sqlite3.Error:
        return [None]


def _last(damaged: sqlite3.Connection) -> int:
    found = 0
    for query in ("SELECT lsn FROM _entgldb_state", "SELECT max(lsn) FROM _entgldb_oplog"):
        with contextlib.suppress(sqlite3.Error):
            row = damaged.execute(query).fetchone()
            value = row[0] if row is not None else 0
            found = max(found, value if isinstance(value, int) else 0)
    # a number that makes no sense is damage, too
    return min(found, 2**40)


def _entry(_: int, recorded: Any, raw: Any, body: Any) -> tuple[Header, bytes, bytes | None, bool] | None:
    """A row whose header is what it was when it was written, and whether it is a write that is whole."""
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
    return header, raw, body, whole
