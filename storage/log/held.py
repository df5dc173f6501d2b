"""The held entries of a file: those with a stamp ahead of the time wait here, behind their log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
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
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.groups import groups
from entgldb.storage.rules.header import Header, decode


class Held:
    """The held entries, as one batch adds to them and takes them out. An origin is named by its number."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._room: tuple[int, int] | None = None
        """How many entries and bytes may still be held, once it has been looked at."""
        self._due_entries = self._due_bytes = 0
        """Entries and bytes that were due so far."""

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

    def due(self, origin: int, waits: Callable[[int], bool]) -> Iterator[tuple[Entry, bool]]:
        """Entries whose whole group is due, and whether a cloud sent them, as many as fit into one go.

        One body is in memory at a time.
        """
        # asked every second, and nearly always in vain: one header says so
        headers = self._headers(origin, 1)
        if headers and not waits(headers[0].hlc):
            headers = self._headers(origin, GROUP_ENTRIES_MAX)
            for header, group in zip(headers, groups(headers), strict=True):
                torn = not group.whole and len(headers) == GROUP_ENTRIES_MAX
                full = self._due_entries >= RELEASED_TOGETHER or self._due_bytes >= GROUP_BYTES_MAX
                if torn or (full and header.group_index == 0) or waits(group.greatest):
                    break
                raw, body, signature, cloud = self._connection.execute(
                    "SELECT header, body, signature, cloud FROM _entgldb_held WHERE origin = ? AND seq = ?",
                    (origin, header.seq),
                ).fetchone()
                entry = Entry(raw, body, signature)
                self._due_entries += 1
                self._due_bytes += entry.size
                yield entry, cloud == 1

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
