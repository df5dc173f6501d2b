"""Merging a staged snapshot into a node's file: one transaction of set-based SQL, by the rule of entries.

A version vector says what a side has seen, the versions it still shows say what of that nobody replaced. So a
version that one side shows and the other does not is either unseen there, and stays, or was replaced or
deleted there, and goes (Preguiça, Baquero and others, "Dotted version vectors", 2010: the same reasoning for
sets of versions). Of what stays, the greatest (hlc, origin) is the document and the others are conflicts, as
if all entries had come one by one.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from entgldb.messages.model import Vector
from entgldb.storage.authorship import authors
from entgldb.storage.file.collections import ensure_collection
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import State, merging_collections
from entgldb.storage.log.evicting import evict
from entgldb.storage.log.recorded import PARTIAL, has_recorded, is_partial, mark_partial
from entgldb.storage.rules import clock
from entgldb.storage.rules.comparing.chunks import SEQ_MAX, Mark, Preface
from entgldb.storage.rules.merge import Head
from entgldb.storage.snapshot.merge_install import MergeInstall, risen

_SYSTEM: Final = "{0}.collection >= '_system_' AND {0}.collection < '_system`'"
# s: staged, o: its origin, d: ours of the same key, l: its origin. A row of ours with hlc 0 and no body
# stands for a key that an earlier snapshot deleted: it counts as none.
_TAKE: Final = """
INSERT INTO temp.taken
SELECT s.id, d.body IS NOT NULL FROM staged.documents s CROSS JOIN temp.places o ON o.place = s.origin
LEFT JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
LEFT JOIN temp.origins l ON l.number = d.origin
WHERE {visible} AND s.id NOT IN (SELECT id FROM temp.joined) AND CASE
    WHEN d.id IS NULL OR (d.body IS NULL AND d.hlc = 0) THEN s.seq > o.ours OR {unseen}
    WHEN d.origin = o.number AND d.seq = s.seq THEN 0
    WHEN d.seq <= l.theirs THEN 1
    WHEN s.seq <= o.ours AND NOT {unseen} THEN 0
    ELSE (s.hlc, o.name) > (d.hlc, l.name) END
"""
_GONE: Final = """
INSERT INTO temp.gone (id)
SELECT d.id FROM main._entgldb_documents d CROSS JOIN temp.origins l ON l.number = d.origin
WHERE d.body IS NOT NULL AND d.seq <= l.theirs AND {visible} AND NOT EXISTS (
    SELECT 1 FROM staged.documents s WHERE s.collection = d.collection AND s.key = d.key)
"""
_REPLACED_THERE: Final = """
DELETE FROM main._entgldb_conflicts AS c WHERE {visible} AND NOT EXISTS (
    SELECT 1 FROM temp.joined j WHERE j.collection = c.collection AND j.key = c.key)
AND c.seq <= (SELECT l.theirs FROM temp.origins l WHERE l.number = c.origin)
AND NOT EXISTS (SELECT 1 FROM staged.conflicts s CROSS JOIN temp.places o ON o.place = s.origin
    WHERE s.collection = c.collection AND s.key = c.key AND o.number = c.origin AND s.seq = c.seq)
AND NOT EXISTS (SELECT 1 FROM staged.documents s CROSS JOIN temp.places o ON o.place = s.origin
    WHERE s.collection = c.collection AND s.key = c.key AND o.number = c.origin AND s.seq = c.seq)
"""
_OUR_LOSERS: Final = """
INSERT OR IGNORE INTO main._entgldb_conflicts (origin, seq, hlc, collection, key, body, found_ms)
SELECT d.origin, d.seq, d.hlc, d.collection, d.key, d.body, :now
FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id
CROSS JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
CROSS JOIN temp.origins l ON l.number = d.origin
WHERE t.was_live AND d.seq > l.theirs
"""
_THEIR_LOSERS: Final = """
INSERT OR IGNORE INTO main._entgldb_conflicts (origin, seq, hlc, collection, key, body, found_ms)
SELECT o.number, s.seq, s.hlc, s.collection, s.key, s.body, :now
FROM staged.documents s CROSS JOIN temp.places o ON o.place = s.origin
CROSS JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
CROSS JOIN temp.origins l ON l.number = d.origin
WHERE s.body IS NOT NULL AND (s.seq > o.ours OR {unseen}) AND d.seq > l.theirs
AND {visible} AND s.id NOT IN (SELECT id FROM temp.taken) AND s.id NOT IN (SELECT id FROM temp.joined)
AND NOT (d.origin = o.number AND d.seq = s.seq)
"""
_THEIR_CONFLICTS: Final = """
INSERT OR IGNORE INTO main._entgldb_conflicts (origin, seq, hlc, collection, key, body, found_ms, rule)
SELECT o.number, s.seq, s.hlc, s.collection, s.key, s.body, :now, s.rule
FROM staged.conflicts s CROSS JOIN temp.places o ON o.place = s.origin
LEFT JOIN main._entgldb_documents d ON d.collection = s.collection AND d.key = s.key
WHERE {visible} AND NOT EXISTS (
    SELECT 1 FROM temp.joined j WHERE j.collection = s.collection AND j.key = s.key)
AND (s.seq > o.ours OR {unseen} OR (d.origin = o.number AND d.seq = s.seq))
"""
_PUT: Final = """
INSERT INTO main._entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256, stamps)
SELECT s.collection, s.key, s.body, o.number, s.seq, s.hlc, :base + s.id, s.sha256, s.stamps
FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id CROSS JOIN temp.places o ON o.place = s.origin
WHERE true ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body, origin = excluded.origin,
seq = excluded.seq, hlc = excluded.hlc, lsn = excluded.lsn, sha256 = excluded.sha256, stamps = excluded.stamps
"""
# the version stays, so that a change feed can name it; hlc 0, so that whatever comes wins, as where no row is
_BURY: Final = """
UPDATE main._entgldb_documents SET body = NULL, sha256 = NULL, stamps = NULL, hlc = 0, lsn = :base + gone.n
FROM temp.gone WHERE gone.id = _entgldb_documents.id
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
# the document is deleted there, where a rival of it is not known: that one wins there as soon as it comes
_RISEN: Final = """
SELECT c.body, c.rule, c.origin, c.seq, c.hlc, o.name, g.id FROM temp.gone g
CROSS JOIN main._entgldb_documents d ON d.id = g.id
CROSS JOIN main._entgldb_conflicts c ON c.collection = d.collection AND c.key = d.key
CROSS JOIN temp.origins o ON o.number = c.origin WHERE c.seq > o.theirs ORDER BY g.id, c.hlc, o.name
"""
_RAISE: Final = (
    "UPDATE main._entgldb_documents SET body = ?, origin = ?, seq = ?, hlc = ?, sha256 = ?, stamps = ?"
    " WHERE id = ?"
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


class Merger:
    """One staged snapshot (attached as ``staged``) and the file's state, inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, state: State, head: Preface, *, cloud: bool) -> None:
        self.connection = connection
        self.state = state
        self.head = head
        self.system = head.system and not cloud
        before = {o: mark for o, mark in state.vector().items() if o != state.own}
        self.all_seen = all(head.vector().get(o, (0,))[0] >= seq for o, (seq, _) in before.items())
        """Whether the snapshot covers all that we have of others."""
        self.partial = is_partial(connection) or has_recorded(connection)
        self.changes: Vector = {}
        self.taken = self.deleted = 0

    def merge(self) -> None:
        """Documents and conflicts, then the vector."""
        self._prepare()
        self._conflicts()
        self._documents()
        self._count_conflicts()
        self._join()

    def _prepare(self) -> None:
        """Fill the temporary tables: the origins on both sides, the rows to take, the rows that go."""
        execute = self.connection.execute
        empty(self.connection, "origins", "places", "taken", "gone")
        state, vector = self.state, self.head.vector()
        rows = []
        for place, mark in enumerate(self.head.marks):
            known = state.known(self.connection, mark.name)
            rows.append((place, known.number, mark.name, known.head.seq))
        authors.keep(self.connection, self.head.authors())
        self.connection.executemany("INSERT INTO temp.places VALUES (?, ?, ?, ?)", rows)
        self.connection.executemany(
            "INSERT INTO temp.origins VALUES (?, ?, ?, ?)",
            [(k.number, o, k.head.seq, vector.get(o, (0,))[0]) for o, k in state.origins.items()],
        )
        joining = MergeInstall(self.connection, state)
        visible = self._visible("{visible}", "s"), self._visible("{visible}", "d")
        joining.join_all(*visible, partial=self.partial)
        execute(self._visible(_TAKE, "s"))
        execute(self._visible(_GONE, "d"))

    def _conflicts(self) -> None:
        """Versions that nobody has replaced, and that are not the document."""
        self.connection.execute(self._visible(_REPLACED_THERE, "c"))
        for statement in (_THEIR_CONFLICTS, _OUR_LOSERS, _THEIR_LOSERS):
            self.connection.execute(self._visible(statement, "s"), {"now": self.state.lived_ms})

    def _documents(self) -> None:
        execute, state = self.connection.execute, self.state
        for (name,) in execute(
            "SELECT DISTINCT s.collection FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id"
        ).fetchall():
            if name not in state.collections:
                ensure_collection(self.connection, state, name)
        self.taken, before = execute("SELECT count(*), ifnull(sum(was_live), 0) FROM temp.taken").fetchone()
        (after,) = execute(
            "SELECT count(*) FROM temp.taken t CROSS JOIN staged.documents s ON s.id = t.id"
            " WHERE s.body IS NOT NULL"
        ).fetchone()
        execute(_PUT, {"base": state.lsn})
        state.lsn += execute("SELECT ifnull(max(id), 0) FROM temp.taken").fetchone()[0]
        self.deleted = execute(_BURY, {"base": state.lsn}).rowcount
        state.lsn += self.deleted
        # of several rivals of one document the last, greatest one is left in the dictionary
        rivals = {row[6]: row[:6] for row in execute(_RISEN)}
        self.connection.executemany(_RAISE, [(*risen(row), id_) for id_, row in rivals.items()])
        state.documents += after - before - self.deleted + len(rivals)
        self.deleted -= len(rivals)

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
            number, ours, _ = state.origins[mark.name]
            if mark.seq > ours.seq:
                state.move(mark.name, Head(mark.seq, mark.head, hlc=mark.hlc))
                state.raise_floor(mark.name, mark.seq)
                self.changes[mark.name] = (mark.seq, mark.head)
                forget_log(self.connection, state, number, 0, mark.seq)
                self._release(mark, number)
        state.clock = clock.advance(state.clock, self.head.clock)
        # tombstones that the sender had collected are not in the snapshot; other nodes may have their
        # documents
        state.collected_hlc = max(state.collected_hlc, self.head.clock)
        if self.changes:
            state.pruned_lsn = state.lsn
        state.set_merging(merging_collections(self.connection))
        if state.unfit:
            self._let_go()
        if self.system:
            self._forget_recorded()
        if not self.system and self.changes:
            mark_partial(self.connection)
        elif self.system and self.all_seen:
            self.connection.execute("DELETE FROM _entgldb_meta WHERE name = ?", (PARTIAL,))

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
        for number, origin, seq in self.connection.execute(
            "SELECT l.origin, o.name, max(l.seq) FROM _entgldb_oplog l CROSS JOIN temp.origins o"
            " ON o.number = l.origin WHERE l.applied = 0 AND l.seq <= o.theirs GROUP BY l.origin"
        ).fetchall():
            if not state.origins[origin].head.forked:
                forget_log(self.connection, state, number, 0, seq)
                state.raise_floor(origin, seq)
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
        return statement.format(visible=visible, unseen=unseen)


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
