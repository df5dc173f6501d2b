"""Merging a staged snapshot into a node's file: set-based SQL for some keys, by the rule of entries.

A version vector says what a side has seen, the versions it still shows say what of that nobody replaced. So a
version that one side shows and the other does not is either unseen there, and stays, or was replaced or
deleted there, and goes (Preguiça, Baquero and others, "Dotted version vectors", 2010: the same reasoning for
sets of versions). Of what stays, the greatest (hlc, origin) is the document and the others are conflicts, as
if all entries had come one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Origin, Vector, Version
from entgldb.storage.authorship import authors, runs
from entgldb.storage.file.collections import ensure_collection
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import State, soonest
from entgldb.storage.log.append import Batch
from entgldb.storage.log.evicting import evict
from entgldb.storage.log.recorded import complete, mark_partial, seen, unseen, vouches
from entgldb.storage.log.rows import write_row
from entgldb.storage.rules import clock
from entgldb.storage.rules.chain import Head
from entgldb.storage.rules.comparing.chunks import SEQ_MAX, Mark, Preface
from entgldb.storage.rules.merging.collection_rule import LWW
from entgldb.storage.rules.merging.row import Joined, Loser, Side, join
from entgldb.storage.rules.merging.stored import Tip, load
from entgldb.storage.rules.vector import seqs

_SYSTEM: Final = "{0}.collection >= '_system_' AND {0}.collection < '_system`'"
# s: staged, o: its origin, d: ours of the same key, l: its origin. A row of ours with hlc 0 and no body
# stands for a key that an earlier snapshot deleted: it counts as none.
# to be joined: we show a version that the giver has not seen, or one side has versions of fields, which are
# more than the newest says. All else that we have the giver has seen: its side says what became of it
_JOINED: Final = """
INSERT INTO temp.joined (collection, key)
SELECT d.collection, d.key FROM temp.scope k
CROSS JOIN main._entgldb_documents d ON d.collection = k.collection AND d.key = k.key
CROSS JOIN temp.origins l ON l.number = d.origin
LEFT JOIN staged.documents s ON s.collection = d.collection AND s.key = d.key
LEFT JOIN temp.places o ON o.place = s.origin
WHERE d.hlc > 0 AND {visible} AND CASE
    WHEN d.stamps IS NOT NULL OR s.stamps IS NOT NULL
    THEN NOT (d.origin IS o.number AND d.seq IS s.seq AND d.stamps IS s.stamps)
    ELSE d.seq > l.theirs AND (s.id IS NOT NULL OR EXISTS (
        SELECT 1 FROM staged.conflicts c WHERE c.collection = d.collection AND c.key = d.key)) END
UNION SELECT d.collection, d.key FROM temp.scope k
CROSS JOIN main._entgldb_conflicts d ON d.collection = k.collection AND d.key = k.key
CROSS JOIN temp.origins l ON l.number = d.origin WHERE d.seq > l.theirs AND {visible}
"""
_TAKE: Final = """
INSERT INTO temp.taken (id, was_live)
SELECT s.id, d.body IS NOT NULL FROM temp.scope k
CROSS JOIN staged.documents s ON s.collection = k.collection AND s.key = k.key
CROSS JOIN temp.places o ON o.place = s.origin
LEFT JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
WHERE {visible} AND {apart} AND CASE
    WHEN d.id IS NULL OR (d.body IS NULL AND d.hlc = 0) THEN s.seq > o.ours OR {unseen}
    ELSE NOT (d.origin = o.number AND d.seq = s.seq) END
"""
_GONE: Final = """
INSERT INTO temp.gone (id)
SELECT s.id FROM temp.scope k
CROSS JOIN main._entgldb_documents s ON s.collection = k.collection AND s.key = k.key
CROSS JOIN temp.origins l ON l.number = s.origin
WHERE s.body IS NOT NULL AND s.seq <= l.theirs AND {visible} AND {apart} AND NOT EXISTS (
    SELECT 1 FROM staged.documents t WHERE t.collection = s.collection AND t.key = s.key)
"""
_REPLACED_THERE: Final = """
DELETE FROM main._entgldb_conflicts WHERE id IN (SELECT s.id FROM temp.scope k
    CROSS JOIN main._entgldb_conflicts s ON s.collection = k.collection AND s.key = k.key
    WHERE {visible} AND {apart}
    AND NOT EXISTS (SELECT 1 FROM staged.conflicts c CROSS JOIN temp.places o ON o.place = c.origin
        WHERE c.collection = s.collection AND c.key = s.key AND o.number = s.origin AND c.seq = s.seq))
"""
_THEIR_CONFLICTS: Final = """
INSERT OR IGNORE INTO main._entgldb_conflicts
(origin, seq, hlc, collection, key, body, found_ms, rule, expires)
SELECT o.number, s.seq, s.hlc, s.collection, s.key, s.body, :now, s.rule, s.expires
FROM temp.scope k CROSS JOIN staged.conflicts s ON s.collection = k.collection AND s.key = k.key
CROSS JOIN temp.places o ON o.place = s.origin
LEFT JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
WHERE {visible} AND {apart} AND (s.seq > o.ours OR {unseen} OR (d.origin = o.number AND d.seq = s.seq))
"""
_APART: Final = "NOT EXISTS (SELECT 1 FROM temp.joined j WHERE j.collection = s.collection AND j.key = s.key)"
_PUT: Final = """
INSERT INTO main._entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256, stamps, expires)
SELECT s.collection, s.key, s.body, o.number, s.seq, s.hlc, :base + t.n, s.sha256, s.stamps, s.expires
FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id CROSS JOIN temp.places o ON o.place = s.origin
WHERE true ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body, origin = excluded.origin,
seq = excluded.seq, hlc = excluded.hlc, lsn = excluded.lsn, sha256 = excluded.sha256,
stamps = excluded.stamps, expires = excluded.expires
"""
# the version stays, so that a change feed can name it; hlc 0, so that whatever comes wins, as where no row is
_BURY: Final = """
UPDATE main._entgldb_documents SET body = NULL, sha256 = NULL, stamps = NULL, hlc = 0, expires = NULL,
lsn = :base + (SELECT g.n FROM temp.gone g WHERE g.id = _entgldb_documents.id)
WHERE id IN (SELECT id FROM temp.gone)
"""
_CURRENT_IS_NO_CONFLICT: Final = """
DELETE FROM main._entgldb_conflicts AS c WHERE EXISTS (SELECT 1 FROM main._entgldb_documents d
    WHERE d.collection = c.collection AND d.key = c.key AND d.origin = c.origin AND d.seq = c.seq
    AND d.hlc > 0)
"""
# an entry that names the conflict came here before it, and not there at all
_NAMED_HERE: Final = """
DELETE FROM main._entgldb_conflicts WHERE (origin, seq) IN (SELECT o.id, s.seq
    FROM main._entgldb_successors s CROSS JOIN main._entgldb_origins o ON o.name = s.origin)
"""
_OURS: Final = (
    (
        "SELECT o.name, d.seq, d.hlc, ifnull(d.expires, 0), d.body, d.stamps FROM main._entgldb_documents d"
        " CROSS JOIN temp.origins o ON o.number = d.origin WHERE d.collection = ? AND d.key = ? AND d.hlc > 0"
    ),
    (
        "SELECT o.name, c.seq, c.hlc, ifnull(c.expires, 0), c.body, c.rule FROM main._entgldb_conflicts c"
        " CROSS JOIN temp.origins o ON o.number = c.origin WHERE c.collection = ? AND c.key = ?"
    ),
)
_THEIRS: Final = (
    (
        "SELECT o.name, s.seq, s.hlc, ifnull(s.expires, 0), s.body, s.stamps FROM staged.documents s"
        " CROSS JOIN temp.places o ON o.place = s.origin WHERE s.collection = ? AND s.key = ?"
    ),
    (
        "SELECT o.name, c.seq, c.hlc, ifnull(c.expires, 0), c.body, c.rule FROM staged.conflicts c"
        " CROSS JOIN temp.places o ON o.place = c.origin WHERE c.collection = ? AND c.key = ?"
    ),
)
_ALL_SET_ASIDE: Final = (
    "SELECT o.name, q.seq FROM main._entgldb_quarantine q CROSS JOIN temp.origins o ON o.number = q.origin"
)
# our vector covers it, and nothing of ours shows it
_SET_ASIDE: Final = (
    "EXISTS (SELECT 1 FROM main._entgldb_quarantine q WHERE q.origin = o.number AND q.seq = s.seq)"
)

_LET_GO: Final = """
DELETE FROM main._entgldb_quarantine AS q WHERE {visible} AND q.seq <= (
    SELECT o.theirs FROM temp.origins o WHERE o.number = q.origin)
RETURNING origin, seq
"""


_KEYS: Final = """
INSERT INTO temp.scope (collection, key) SELECT collection, key FROM staged.documents
UNION SELECT collection, key FROM staged.conflicts UNION SELECT collection, key FROM main._entgldb_documents
UNION SELECT collection, key FROM main._entgldb_conflicts
"""


class Merger:
    """One staged snapshot (attached as ``staged``) and the file's state, inside one transaction.

    To be made while ``_entgldb_documents`` is what readers see. ``firsts``: of each log, what will be taken
    out: from that entry on it counts as not seen.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        state: State,
        head: Preface,
        *,
        cloud: bool,
        firsts: Mapping[Origin, int] = MappingProxyType({}),
    ) -> None:
        self.connection = connection
        self.state = state
        self.head = head
        self.system = head.system and not cloud
        self.firsts = firsts
        self._before = {o: min(seq, firsts.get(o, seq + 1) - 1) for o, seq in seqs(state.vector()).items()}
        self._seen, self._lacks = seen(connection, self._before), unseen(connection)
        self.partial = not vouches(connection)
        self.desk = connection
        """Has the rows of the keys in ``temp.scope``, and what is staged."""
        self.changes: Vector = {}
        self.taken = self.deleted = 0

    def merge(self) -> None:
        """All keys at once, then the vector."""
        self.prepare()
        self.connection.execute(_KEYS)
        self.take()
        self.finish()

    def prepare(self) -> None:
        """Make the origins on both sides known, and ``temp.scope`` empty: the keys that ``take`` is about."""
        state, vector = self.state, self.head.vector()
        rows = []
        for place, mark in enumerate(self.head.marks):
            known = state.known(self.connection, mark.name)
            rows.append((place, known.number, mark.name, self._before.get(mark.name, 0)))
        authors.remember(self.connection, self.head.authors())
        origins = [
            (known.number, o, self._before.get(o, 0), vector.get(o, (0,))[0])
            for o, known in state.origins.items()
        ]
        for on in dict.fromkeys((self.connection, self.desk)):
            empty(on, "origins", "places", "scope")
            on.executemany("INSERT INTO temp.places VALUES (?, ?, ?, ?)", rows)
            on.executemany("INSERT INTO temp.origins VALUES (?, ?, ?, ?)", origins)

    def take(self) -> None:
        """Documents and conflicts of the keys in ``temp.scope``."""
        execute = self.desk.execute
        empty(self.desk, "joined", "taken", "gone")
        execute(self._visible(_JOINED, "d"))
        self._join_keys()
        execute(self._visible(_TAKE, "s"))
        execute(self._visible(_GONE, "s"))
        self._conflicts()
        self._documents()

    def finish(self) -> None:
        """Of all keys: what is no conflict any more; then the vector."""
        self._count_conflicts()
        self._join()

    def _join_keys(self) -> None:
        """Every key of which a version says too little: what both sides know, joined."""
        connection, state = self.desk, self.state
        batch = Batch(connection, state)
        theirs = {name: seq for name, (seq, _) in self.head.vector().items()}
        aside = set(connection.execute(_ALL_SET_ASIDE).fetchall()) if state.unfit else set()

        def ours(one: Version) -> bool:
            return self._before.get(one.origin, 0) >= one.seq and one not in aside

        def ours_of_system(one: Version) -> bool:
            return ours(one) and not self._lacks(one)

        last = 0
        while page := connection.execute(
            "SELECT id, collection, key FROM temp.joined WHERE id > ? ORDER BY id LIMIT ?",
            (last, PAGE_ROWS_MAX),
        ).fetchall():
            last = page[-1][0]
            for _, *names in page:
                place = (names[0], names[1])
                covers = ours_of_system if place[0].startswith(SYSTEM_PREFIX) else ours
                here = self._side(_OURS, place, covers)
                there = self._side(_THEIRS, place, lambda one: theirs.get(one.origin, 0) >= one.seq)
                joined = join(here, there, state.time_ms)
                self._write(batch, place, here, joined)

    def _side(
        self, queries: tuple[str, str], place: tuple[str, str], covers: Callable[[Version], bool]
    ) -> Side:
        row = self.desk.execute(queries[0], place).fetchone()
        stored = None if row is None else load(Tip(*row[:4]), row[4], row[5])
        losers = [
            Loser(Tip(name, seq, hlc, expires), text, rule == LWW)
            for name, seq, hlc, expires, text, rule in self.desk.execute(queries[1], place)
        ]
        return Side(stored, {loser.tip.version: loser for loser in losers}, covers)

    def _write(self, batch: Batch, place: tuple[str, str], here: Side, joined: Joined) -> None:
        state = self.state
        if joined.row is not None:
            write_row(batch, place, joined.row, state.next_lsn(), bounded=False)
            self.taken += joined.row != (here.row and here.row._replace(hidden=joined.row.hidden))
        elif here.row is not None:
            batch.bury(*place)
            state.documents -= here.row.shown
            self.deleted += 1
        for version in here.conflicts.keys() - joined.conflicts.keys():
            batch.clear_conflict(place, version)
        for loser in joined.conflicts.values():
            batch.keep_loser(*place, loser)

    def _conflicts(self) -> None:
        """Versions that nobody has replaced, and that are not the document."""
        self.desk.execute(self._visible(_REPLACED_THERE, "s"))
        self.desk.execute(self._visible(_THEIR_CONFLICTS, "s"), {"now": self.state.lived_ms})

    def _documents(self) -> None:
        execute, state = self.desk.execute, self.state
        for (name,) in execute(
            "SELECT DISTINCT s.collection FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id"
        ).fetchall():
            if name not in state.collections:
                ensure_collection(self.connection, state, name)
        taken, before = execute("SELECT count(*), ifnull(sum(was_live), 0) FROM temp.taken").fetchone()
        self.taken += taken
        (after,) = execute(
            "SELECT count(*) FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id"
            " WHERE s.body IS NOT NULL"
        ).fetchone()
        execute(_PUT, {"base": state.lsn})
        state.lsn += execute("SELECT ifnull(max(n), 0) FROM temp.taken").fetchone()[0]
        buried = execute(_BURY, {"base": state.lsn}).rowcount
        state.lsn += buried
        state.documents += after - before - buried
        self.deleted += buried

    def _count_conflicts(self) -> None:
        execute, state = self.connection.execute, self.state
        execute(_CURRENT_IS_NO_CONFLICT)
        execute(_NAMED_HERE)
        (state.conflicts,) = execute("SELECT count(*) FROM _entgldb_conflicts").fetchone()
        evict(self.connection, state)

    def _join(self) -> None:
        """Move each head to the snapshot's: its documents are here now, its log rows are not and never will
        be."""
        state = self.state
        for mark in self.head.marks:
            number, ours, *_ = state.origins[mark.name]
            if mark.seq > ours.seq:
                state.move(mark.name, Head(mark.seq, mark.head, hlc=mark.hlc))
                state.raise_floor(mark.name, mark.seq, mark.hlc)
                self.changes[mark.name] = (mark.seq, mark.head)
                forget_log(self.connection, state, number, 0, mark.seq)
                runs.replace(self.connection, number, mark.runs)
                self._release(mark, number)
        state.clock = clock.advance(state.clock, self.head.clock)
        # tombstones that the sender had collected are not in the snapshot; other nodes may have their
        # documents
        state.collected_hlc = max(state.collected_hlc, self.head.clock)
        if self.changes:
            state.pruned_lsn = state.lsn
        state.read_rules(self.connection)
        state.soonest_ms = soonest(self.connection)
        if state.unfit:
            self._let_go()
        if self.system:
            self._forget_recorded()
        if not self.system and self.changes:
            mark_partial(self.connection, self._seen, self._of_others(seqs(state.vector())))
        elif self.system:
            complete(self.connection, seqs(self.head.vector()))

    def _of_others(self, vector: dict[Origin, int]) -> dict[Origin, int]:
        """Without our own log, unless the snapshot has more of it than we have."""
        own = self.state.own
        return {origin: seq for origin, seq in vector.items() if origin != own or own in self.changes}

    def _let_go(self) -> None:
        """Settle entries that are set aside here: the giver of a snapshot has applied those that it
        covers."""
        visible = "true" if self.system else f"NOT ({_SYSTEM.format('q')})"
        ended = self.connection.execute(_LET_GO.format(visible=visible)).fetchall()
        self.state.unfit -= len(ended)
        self.connection.executemany(
            "UPDATE _entgldb_oplog SET applied = 1 WHERE origin = ? AND seq = ? AND applied = 2", ended
        )

    def _forget_recorded(self) -> None:
        """Forget entries that were only recorded here and that the snapshot covers: it has brought their
        effect."""
        state = self.state
        for number, origin, seq, hlc in self.connection.execute(
            "SELECT l.origin, m.name, l.seq, l.hlc FROM _entgldb_oplog l JOIN ("
            " SELECT l.origin, o.name, max(l.seq) AS seq FROM _entgldb_oplog l CROSS JOIN temp.origins o"
            " ON o.number = l.origin WHERE l.applied = 0 AND l.seq <= o.theirs GROUP BY l.origin, o.name"
            ") m ON m.origin = l.origin AND m.seq = l.seq"
        ).fetchall():
            if not state.origins[origin].head.forked:
                forget_log(self.connection, state, number, 0, seq)
                state.raise_floor(origin, seq, hlc)
                state.pruned_lsn = state.lsn

    def _release(self, mark: Mark, number: int) -> None:
        """Delete the held entries of an origin that the snapshot covers now, or all of them if they are of
        another branch."""
        execute, held = self.connection.execute, self.state.held.get(mark.name)
        row = execute(
            "SELECT hash FROM _entgldb_held WHERE origin = ? AND seq = ?", (number, mark.seq)
        ).fetchone()
        # a held entry links to the held one before it: it comes again, and is found to be a fork
        last = mark.seq if row is None or row[0] == mark.head else SEQ_MAX
        execute("DELETE FROM _entgldb_held WHERE origin = ? AND seq <= ?", (number, last))
        if held is not None and held.seq <= last:
            del self.state.held[mark.name]
        execute("DELETE FROM _entgldb_successors WHERE origin = ? AND seq <= ?", (mark.name, mark.seq))

    def _visible(self, statement: str, alias: str) -> str:
        system = f"({_SYSTEM.format(alias)})"
        visible = "true" if self.system else f"NOT {system}"
        unseen = system if self.partial else "false"
        if self.state.unfit:
            unseen = f"({unseen} OR {_SET_ASIDE})"
        return statement.format(visible=visible, unseen=unseen, apart=_APART)


def forget_log(connection: sqlite3.Connection, state: State, origin: int, after: int, last: int) -> None:
    """Log rows of an origin behind ``after`` and up to ``last`` go."""
    rows, size = connection.execute(
        "SELECT count(*), ifnull(sum(length(header) + ifnull(length(body), 0)), 0) FROM _entgldb_oplog"
        " WHERE origin = ? AND seq > ? AND seq <= ?",
        (origin, after, last),
    ).fetchone()
    if rows:
        connection.execute(
            "DELETE FROM _entgldb_oplog WHERE origin = ? AND seq > ? AND seq <= ?", (origin, after, last)
        )
        state.entries -= rows
        state.log_bytes -= size
