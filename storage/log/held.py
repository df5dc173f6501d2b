"""The held entries of a file: those with a stamp ahead of the time wait here, behind their log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from entgldb.messages.limits import (
    DRIFT_MS_MAX,
    GROUP_BYTES_MAX,
    GROUP_ENTRIES_MAX,
    HELD_BYTES_MAX,
    HELD_ENTRIES_MAX,
    RELEASED_TOGETHER,
)
from entgldb.messages.model import Entry, Origin
from entgldb.storage.rules.clock import HLC_MAX, ms_of
from entgldb.storage.rules.groups import groups
from entgldb.storage.rules.header import Header, decode

_Due = tuple[int, int, int, int]
"""The first stamp of a group, and of an entry in it its origin, seq and place."""


class Held:
    """The held entries, as one batch adds to them and takes them out. An origin is named by its number."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._room: tuple[int, int] | None = None
        """How many entries and bytes may still be held, once it has been looked at."""

    def full(self) -> bool:
        """Whether so much is held that it has to be sent again once time has caught up with some of it."""
        if self._room is None:
            entries, size = self._connection.execute(
                "SELECT count(*), ifnull(sum(length(header) + ifnull(length(body), 0)), 0) FROM _entgldb_held"
            ).fetchone()
            self._room = (HELD_ENTRIES_MAX - entries, HELD_BYTES_MAX - size)
        return min(self._room) <= 0

    def add(self, origin: int, seq: int, digest: bytes, entry: Entry, *, cloud: bool) -> None:
        """Hold an entry; ``cloud``: it came by a cloud link."""
        if self._room is not None:
            self._room = (self._room[0] - 1, self._room[1] - len(entry.header) - len(entry.body or b""))
        self._connection.execute(
            "INSERT INTO _entgldb_held VALUES (?, ?, ?, ?, ?, ?, ?)",
            (origin, seq, digest, entry.header, entry.body, cloud, entry.signature),
        )

    def due(self, origins: Iterable[int], waits: Callable[[int], bool]) -> Iterator[tuple[int, Entry, bool]]:
        """Entries whose whole group is due, the number of each one's origin, and whether a cloud sent it; as
        many as fit into one go.

        An effect is stamped later than its cause, whoever wrote that: so the groups of all origins go in the
        order of their stamps. One body is in memory at a time.
        """
        due, bound = list[_Due](), HLC_MAX
        for origin in origins:
            found, last = self._due(origin, waits)
            due += found
            bound = min(bound, last)
        entries = size = 0
        for first, origin, seq, index in sorted(due):
            full = entries >= RELEASED_TOGETHER or size >= GROUP_BYTES_MAX
            if index == 0 and (full or first > bound):
                return
            row = self._connection.execute(
                "SELECT header, body, signature, cloud FROM _entgldb_held WHERE origin = ? AND seq = ?",
                (origin, seq),
            ).fetchone()
            if row is None:
                continue  # one that went before it has ended this log
            raw, body, signature, cloud = row
            entry = Entry(raw, body, signature)
            entries, size = entries + 1, size + entry.size
            yield origin, entry, cloud == 1

    def _due(self, origin: int, waits: Callable[[int], bool]) -> tuple[list[_Due], int]:
        """The first entries whose whole group is due, and the last stamp before those that were not looked
        at."""
        found = list[_Due]()
        # asked every second, and nearly always in vain: one header says so
        headers = self._headers(origin, 1)
        if not headers or waits(headers[0].hlc):
            return found, HLC_MAX
        headers, first = self._headers(origin, GROUP_ENTRIES_MAX), 0
        more = len(headers) == GROUP_ENTRIES_MAX
        for header, group in zip(headers, groups(headers), strict=True):
            if (more and not group.whole) or waits(group.greatest):
                break
            first = header.hlc if header.group_index == 0 else first
            found.append((first, origin, header.seq, header.group_index))
        return found, headers[-1].hlc if more else HLC_MAX

    def remove(self, origin: int, seq: int) -> None:
        """Remove the entries up to ``seq``: they are in the log."""
        self._connection.execute("DELETE FROM _entgldb_held WHERE origin = ? AND seq <= ?", (origin, seq))

    def _headers(self, origin: int, count: int) -> list[Header]:
        rows = self._connection.execute(
            "SELECT header FROM _entgldb_held WHERE origin = ? ORDER BY seq LIMIT ?", (origin, count)
        )
        return [decode(raw) for (raw,) in rows]


class Waiting(NamedTuple):
    """The held entries of one origin, whose clock runs ahead."""

    origin: Origin
    entries: int
    first_due_ms: int
    """Wall clock at which its first entry is applied by itself."""


def list_held(connection: sqlite3.Connection) -> list[Waiting]:
    """The held entries, by origin."""
    rows = connection.execute(
        "SELECT o.name, count(*), (SELECT f.header FROM _entgldb_held f WHERE f.origin = h.origin"
        " ORDER BY f.seq LIMIT 1) FROM _entgldb_held h JOIN _entgldb_origins o ON o.id = h.origin"
        " GROUP BY h.origin, o.name ORDER BY o.name"
    ).fetchall()
    return [Waiting(origin, count, ms_of(decode(raw).hlc) - DRIFT_MS_MAX) for origin, count, raw in rows]
