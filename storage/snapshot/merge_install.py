"""A snapshot meets documents that merge: key by key, what both sides know is joined.

Such a row is more than its newest version, so that no vector can say which of two is to be kept; but of
trees the join is right whatever each side has seen.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from entgldb.messages.model import SYSTEM_PREFIX
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import State
from entgldb.storage.rules.merging.changes import plant
from entgldb.storage.rules.merging.row import Loser
from entgldb.storage.rules.merging.sides import Joined, SideOfKey, join_sides
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save

# the rows that differ and have versions of their fields, on one side or on both
_PAIRS: Final = """
SELECT s.id, s.collection, s.key, o.name, s.seq, s.hlc, s.body, s.stamps,
    l.name, d.seq, d.hlc, d.body, d.stamps
FROM staged.documents s CROSS JOIN temp.places o ON o.place = s.origin
CROSS JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
CROSS JOIN temp.origins l ON l.number = d.origin
WHERE s.id > :after AND d.hlc > 0 AND (s.stamps IS NOT NULL OR d.stamps IS NOT NULL) AND {visible}
AND NOT (d.origin = o.number AND d.seq = s.seq AND d.stamps IS s.stamps) ORDER BY s.id LIMIT 100
"""
# of ours alone: versions merged into it may have been named there
_ALONE: Final = """
SELECT d.id, d.collection, d.key, l.name, d.seq, d.hlc, d.body, d.stamps
FROM main._entgldb_documents d CROSS JOIN temp.origins l ON l.number = d.origin
WHERE d.id > :after AND d.hlc > 0 AND d.stamps IS NOT NULL AND {visible} AND NOT EXISTS (
    SELECT 1 FROM staged.documents s WHERE s.collection = d.collection AND s.key = d.key)
ORDER BY d.id LIMIT 100
"""
_OURS: Final = (
    "SELECT o.name, c.seq, c.hlc, c.body, c.rule FROM main._entgldb_conflicts c"
    " CROSS JOIN temp.origins o ON o.number = c.origin WHERE c.collection = ? AND c.key = ?"
)
_THEIRS: Final = (
    "SELECT o.name, c.seq, c.hlc, c.body, c.rule FROM staged.conflicts c"
    " CROSS JOIN temp.places o ON o.place = c.origin WHERE c.collection = ? AND c.key = ?"
)
_SET_ASIDE: Final = (
    "SELECT o.name, q.seq FROM main._entgldb_quarantine q CROSS JOIN temp.origins o ON o.number = q.origin"
)
_ROW: Final = (
    "UPDATE main._entgldb_documents SET body = ?, origin = ?, seq = ?, hlc = ?, lsn = ?, sha256 = ?,"
    " stamps = ? WHERE collection = ? AND key = ?"
)
_CONFLICT: Final = (
    "INSERT OR IGNORE INTO main._entgldb_conflicts"
    " (origin, seq, hlc, collection, key, body, found_ms, rule) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class MergeInstall:
    """The keys of one snapshot that are joined instead of taken or kept; they stand in ``temp.joined``."""

    def __init__(self, connection: sqlite3.Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        empty(connection, "joined")
        rows = connection.execute("SELECT name, ours, theirs FROM temp.origins").fetchall()
        self._ours = {name: ours for name, ours, _ in rows}
        self._theirs = {name: theirs for name, _, theirs in rows}
        self._set_aside = set(connection.execute(_SET_ASIDE).fetchall()) if state.unfit else set()

    def join_all(self, staged: str, ours: str, *, partial: bool) -> None:
        """Join every key that needs it, of the rows that conditions on ``s`` and ``d`` let be seen.

        ``partial``: our vector covers system entries never seen here.
        """
        for row in self._pages(_PAIRS.format(visible=staged)):
            seen = {} if partial and row[1].startswith(SYSTEM_PREFIX) else self._ours
            place = (row[1], row[2])
            there = load(Tip(*row[3:6]), row[6], row[7])
            here = load(Tip(*row[8:11]), row[11], row[12])
            joined = join_sides(
                self._side(here, _OURS, place, seen), self._side(there, _THEIRS, place, self._theirs)
            )
            self._connection.execute("INSERT INTO temp.joined VALUES (?, ?, ?)", row[:3])
            self._write(place, row[8:], joined, text=_own_text(joined.stored, there, row[6]))

        for row in self._pages(_ALONE.format(visible=ours)):
            self._forget_named(row)

    def _forget_named(self, row: tuple[Any, ...]) -> None:
        """Of a row that the snapshot does not have: versions that were named there are settled."""
        stored = load(Tip(*row[3:6]), row[6], row[7])
        if not stored.tips:
            return
        there = {(name, seq) for name, seq, *_ in self._connection.execute(_THEIRS, row[1:3])}
        tips = tuple(
            tip for tip in stored.tips if tip.version in there or self._theirs.get(tip.origin, 0) < tip.seq
        )
        if tips != stored.tips:
            blob = save(stored._replace(tips=tips))[1]
            self._connection.execute(
                "UPDATE main._entgldb_documents SET stamps = ? WHERE id = ?", (blob, row[0])
            )

    def _pages(self, query: str) -> Iterator[tuple[Any, ...]]:
        after = 0
        while page := self._connection.execute(query, {"after": after}).fetchall():
            after = page[-1][0]
            yield from page

    def _side(self, stored: Stored, query: str, place: tuple[str, str], seen: Mapping[str, int]) -> SideOfKey:
        rows = self._connection.execute(query, place)
        losers = [Loser(Tip(name, seq, hlc), text, rule == "lww") for name, seq, hlc, text, rule in rows]
        conflicts = {loser.tip.version: loser for loser in losers}
        aside = self._set_aside if query == _OURS else ()
        return SideOfKey(
            stored,
            conflicts,
            lambda version: seen.get(version.origin, 0) >= version.seq and version not in aside,
        )

    def _write(
        self, place: tuple[str, str], before: tuple[Any, ...], joined: Joined, *, text: str | None
    ) -> None:
        """``before``: origin, seq, hlc, body and stamps of our row."""
        execute, state = self._connection.execute, self._state
        newest = joined.stored.newest
        body, blob = save(joined.stored)
        if body is not None and joined.stored.is_whole():
            body = before[3] if newest == before[:3] else text
        if (*newest, body, blob) != before:
            state.lsn += 1
            digest = None if body is None else sha256(body.encode()).digest()
            number = state.origins[newest.origin].number
            execute(_ROW, (body, number, newest.seq, newest.hlc, state.lsn, digest, blob, *place))
            state.documents += (body is not None) - (before[3] is not None)
        execute("DELETE FROM main._entgldb_conflicts WHERE collection = ? AND key = ?", place)
        for tip, lost, whole in joined.conflicts.values():
            number, rule = state.origins[tip.origin].number, "lww" if whole else "merge"
            execute(_CONFLICT, (number, tip.seq, tip.hlc, *place, lost, state.lived_ms, rule))


def risen(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A conflict that becomes the document: body, origin, seq, hlc, sha256 and stamps.

    ``row``: body, rule, origin, seq, hlc, and the origin's name.
    """
    text, rule, number, seq, hlc, name = row
    body, blob = text, None
    if rule != "lww":
        tip = Tip(name, seq, hlc)
        body, blob = save(Stored(tip, live=True, tree=plant(json.loads(text), tip.stamp)))
    return body, number, seq, hlc, sha256(body.encode()).digest(), blob


def _own_text(joined: Stored, staged: Stored, text: str | None) -> str | None:
    return text if joined.newest == staged.newest else None
