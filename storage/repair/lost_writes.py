"""The writes of a damaged file that the peers lack, looked for in bounded parts before one is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from typing import Final

from entgldb.messages.limits import COUNT_MAX, RUN_HASH_BYTES
from entgldb.messages.model import Origin, Version
from entgldb.storage.authorship import runs
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import Known, State
from entgldb.storage.rules.header import Header, decode, digest

LANDMARK: Final = 0
"""The stamp of a row that is no write: its entry begins a run, could not be read (without a header), or is
written again by now."""
PAGE_ROWS: Final = 500
"""Rows that are looked at in one turn."""


def noting(connection: sqlite3.Connection, state: State) -> Iterator[None]:
    """Note the lost writes to each key (``temp.mine``), the last of them (``temp.lasts``), and the versions
    that their writer had replaced by them (``temp.saw``), a page of rows at each turn."""
    empty(connection, "mine", "lasts", "saw")
    lacking = dict[Origin, int]()
    for origin in _logs(connection):
        first = yield from _first_lacking(connection, state, origin)
        if first:
            lacking[origin] = first
    for origin, first in lacking.items():
        last = first - 1
        while page := connection.execute(
            "SELECT seq, hlc, header FROM _entgldb_salvaged WHERE origin = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (origin, last, PAGE_ROWS),
        ).fetchall():
            for seq, hlc, raw in page:
                if hlc > LANDMARK:
                    _note(connection, state, lacking, Version(origin, seq), decode(raw))
            last = page[-1][0]
            yield


def _logs(connection: sqlite3.Connection) -> Iterator[Origin]:
    find, origin = "SELECT min(origin) FROM _entgldb_salvaged WHERE origin > ?", ""
    while (origin := connection.execute(find, (origin,)).fetchone()[0]) is not None:
        yield origin


def _note(
    connection: sqlite3.Connection,
    state: State,
    lacking: dict[Origin, int],
    write: Version,
    header: Header,
) -> None:
    execute, place = connection.execute, (header.collection, header.key)
    execute("INSERT INTO temp.mine VALUES (?, ?, ?, ?)", (*place, *write))
    execute(
        "INSERT INTO temp.lasts VALUES (?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE"
        " SET hlc = excluded.hlc, origin = excluded.origin, seq = excluded.seq"
        " WHERE (excluded.hlc, excluded.origin, excluded.seq) > (hlc, origin, seq)",
        (header.hlc, *write, *place),
    )
    for version in header.named:
        # the peers may have another entry by the number of one that is lost
        known, first = state.origins.get(version.origin), lacking.get(version.origin, 0)
        if known is not None and version.seq <= known.head.seq and not 0 < first <= version.seq:
            execute("INSERT OR IGNORE INTO temp.saw VALUES (?, ?, ?, ?)", (*place, *version))


def _first_lacking(
    connection: sqlite3.Connection, state: State, origin: Origin
) -> Generator[None, None, int]:
    """The first entry of a salvaged log that the peers' one does not have; 0: it has all.

    A number alone tells nothing: the file may have gone back, as nobody told, and two logs go on from there.
    Logs that have the same entry have the same ones before it. Of entries that the peers have pruned their
    runs tell, as far back as those are known: a branch begins with a run. Where nothing tells they lack it:
    an entry that is written in vain harms less than one lost.
    """
    if origin not in state.origins:
        return 1
    first, before = 0, COUNT_MAX + 1
    begun = runs.of(connection, state.origins[origin].number)
    since = runs.known_since(begun)
    while page := connection.execute(
        "SELECT seq, header FROM _entgldb_salvaged WHERE origin = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
        (origin, before, PAGE_ROWS),
    ).fetchall():
        known = state.origins[origin]
        for seq, raw in page:
            ours, theirs = digest(raw), _hash(connection, known, seq)
            if ours == theirs or (seq, ours[:RUN_HASH_BYTES]) in begun:
                return first
            header = decode(raw) if raw else None
            if theirs is None and seq <= known.head.seq:
                lacks = header is None or header.begins
            else:
                lacks = header is not None
            first = seq if lacks else first
            if header is not None and header.prev_hash == _hash(connection, known, seq - 1):
                return first
        before = page[-1][0]
        yield
    # the branches may have parted before all runs that are known
    return 1 if first and since else first


def _hash(connection: sqlite3.Connection, known: Known, seq: int) -> bytes | None:
    """Of an entry that is not pruned, or is the last."""
    if seq == known.head.seq:
        return known.head.hash
    find = "SELECT hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?"
    row: tuple[bytes] | None = connection.execute(find, (known.number, seq)).fetchone()
    return None if row is None else row[0]
