"""Replacing rows that are wrong by rule: the store's part of verification."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from entgldb.messages.errors import EntglError
from entgldb.messages.limits import DEPTH_MAX, DRIFT_MS_MAX, ROW_BYTES_MAX
from entgldb.messages.model import Vector
from entgldb.messages.wire import Copy
from entgldb.storage.file.state import State
from entgldb.storage.indexes.catalogue import begin_words_anew
from entgldb.storage.log.append import Batch
from entgldb.storage.repair.copies import has_unapplied, read_copy, read_header, read_logged, was_dropped
from entgldb.storage.rules.body import check_object
from entgldb.storage.rules.comparing.repair import Decision, Side, decide, is_sound
from entgldb.storage.rules.merging.stored import Tip, load, load_foreign, save


class Mender:
    """Compares rows of this file with a peer's, inside a transaction of the one writer."""

    def __init__(self, connection: sqlite3.Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        self._vector = state.vector()
        self._miscounted = False
        self._mended = False
        self._replaced: set[str] = set()
        """Collections of which rows were replaced."""

    def mend(
        self, copies: Sequence[Copy], absent: Sequence[tuple[str, str]], vector: Vector, *, write: bool
    ) -> list[Decision]:
        """One decision for each of ``copies``, then for each of ``absent``, keys that the peer has not got.

        ``vector`` is what the peer had taken in before it read them. ``write``: replace
        what is wrong by rule.
        """
        decisions = []
        for copy in copies:
            decision = self._from_own_log(copy.collection, copy.key, write=write) or self.judge(copy, vector)
            if decision is Decision.TAKE and not self._is_row(copy):
                decision = Decision.UNDECIDED
            if decision is Decision.TAKE and write and not self._mended:
                self.replace(copy)
            decisions.append(decision)
        for collection, key in absent:
            own = self._from_own_log(collection, key, write=write)
            decisions.append(own or self.judge_absent(collection, key, vector))
        self._finish()
        return decisions

    def _from_own_log(self, collection: str, key: str, *, write: bool) -> Decision | None:
        """A row that is not what our own log says of its version: the log is right."""
        self._mended = False
        mine = self._side(collection, key)
        if mine.copy is None or mine.sound:
            return None
        logged = read_logged(self._connection, mine.copy)
        if logged is None:
            return None
        self._mended = True
        if write:
            self.replace(logged)
        return Decision.TAKE

    def judge(self, copy: Copy, vector: Vector) -> Decision:
        """About a row that the peer shows."""
        mine = self._side(copy.collection, copy.key)
        if self._is_of_another_branch(copy):
            return Decision.WAIT
        same = mine.copy is not None and (mine.copy.origin, mine.copy.seq) == (copy.origin, copy.seq)
        if not same and was_dropped(self._connection, copy.origin, copy.seq):
            return Decision.WAIT
        sound = self._is_sound(copy)
        return self._unless_waiting(copy.collection, copy.key, mine, decide(mine, Side(copy, vector, sound)))

    def judge_absent(self, collection: str, key: str, vector: Vector) -> Decision:
        """About a row of ours that the peer has not got."""
        mine = self._side(collection, key)
        return self._unless_waiting(collection, key, mine, decide(mine, Side(None, vector)))

    def replace(self, copy: Copy) -> None:
        """Replace our row by the peer's. The change feed tells of it."""
        state, connection = self._state, self._connection
        before = read_copy(connection, copy.collection, copy.key)
        state.known(connection, copy.origin)
        text = None if copy.body is None else copy.body.decode()
        newest, saved = Tip(copy.origin, copy.seq, copy.hlc, copy.expires), (text, copy.stamps)
        if 0 < copy.expires <= state.time_ms and text is not None:
            saved = save(load(newest, text, copy.stamps), hidden=True)
        was_live = before is not None and before.body is not None
        Batch(connection, state).write(
            (copy.collection, copy.key), newest, saved, state.next_lsn(), was_live=was_live
        )
        self._replaced.add(copy.collection)
        if before is None or (before.body is None) != (copy.body is None):
            self._miscounted = True

    def _finish(self) -> None:
        """Have words indexed anew that may be those of a damaged row, and count the documents anew if rows
        have changed behind our back."""
        for collection in self._replaced:
            begin_words_anew(self._connection, collection)
        if self._miscounted:
            (all_rows,) = self._connection.execute("SELECT count(*) FROM _entgldb_documents").fetchone()
            (dead,) = self._connection.execute(
                "SELECT count(*) FROM _entgldb_documents WHERE body IS NULL"
            ).fetchone()
            self._state.documents = all_rows - dead

    def _side(self, collection: str, key: str) -> Side:
        copy = read_copy(self._connection, collection, key)
        return Side(copy, self._vector, copy is None or self._is_sound(copy), self._state.time_ms)

    def _is_sound(self, copy: Copy) -> bool:
        header = read_header(self._connection, copy.origin, copy.seq)
        # whoever has hidden it may have had a clock ahead of ours, as far as two may differ
        return is_sound(copy, header, self._state.time_ms + DRIFT_MS_MAX)

    def _unless_waiting(self, collection: str, key: str, mine: Side, decision: Decision) -> Decision:
        """Quarantine, and entries that are still to be supplied, have their own way."""
        known = self._state.origins.get(mine.copy.origin) if mine.copy is not None else None
        if known is not None and known.head.forked:
            return Decision.WAIT
        if has_unapplied(self._connection, collection, key):
            return Decision.WAIT
        return decision

    def _is_of_another_branch(self, copy: Copy) -> bool:
        """Whether its log has a fork. Stamps grow along a log: a stamp alone may say so."""
        known = self._state.origins.get(copy.origin)
        if known is None:
            return False
        return known.head.forked or (copy.seq <= known.head.seq and copy.hlc > known.head.hlc)

    def _is_row(self, copy: Copy) -> bool:
        """Whether a copy can be a row, as far as that can be seen from itself."""
        try:
            if copy.body is not None:
                check_object(copy.body, ROW_BYTES_MAX, DEPTH_MAX)
            if copy.stamps is not None:
                body = None if copy.body is None else copy.body.decode()
                tip = Tip(copy.origin, copy.seq, copy.hlc, copy.expires)
                load_foreign(tip, body, copy.stamps, self._state.origins, self._state.clock)
        except EntglError:
            return False
        # it is covered by our vector, and so is its stamp by our clock
        return copy.hlc <= self._state.clock
