"""The rows of one write or one incoming batch, gathered and then written by two statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol, runtime_checkable

from entgldb.messages.limits import CONFLICTS_KEPT_MS_MAX, NAMED_MAX, SUCCESSORS_MAX
from entgldb.messages.model import COLLECTIONS, Version
from entgldb.storage.authorship import runs
from entgldb.storage.file.collections import ensure_collection
from entgldb.storage.file.state import GREW, Rows, State
from entgldb.storage.log.evicting import evict
from entgldb.storage.rules.header import Header, digest
from entgldb.storage.rules.merging.collection_rule import life_of, merges
from entgldb.storage.rules.merging.row import Current, Loser
from entgldb.storage.rules.merging.stored import Tip

_CURRENT: Final = (
    "SELECT o.name, d.seq, d.hlc, d.body IS NOT NULL, d.stamps IS NOT NULL FROM _entgldb_documents d"
    " CROSS JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ? AND d.hlc > 0"
)
TOGETHER: Final = 64
"""Versions looked up by one statement."""
_CURRENT_OF_ANY: Final = _CURRENT.replace("SELECT ", "SELECT d.key, ", 1).replace("d.key = ?", "d.key IN (?)")
_CURRENT_OF_MANY: Final = _CURRENT_OF_ANY.replace("(?)", f"({', '.join('?' * TOGETHER)})")
"""A row with hlc 0 is what a snapshot left of a key that is gone, for the change feed alone."""
_BODY: Final = "SELECT body FROM _entgldb_documents WHERE collection = ? AND key = ?"
_LOG: Final = (
    "INSERT INTO _entgldb_oplog"
    " (lsn, origin, seq, hash, collection, key, header, body, applied, signature, hlc, request, grew)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DOCUMENT: Final = (
    "INSERT INTO _entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET"
    " body = excluded.body, origin = excluded.origin, seq = excluded.seq,"
    " hlc = excluded.hlc, lsn = excluded.lsn, sha256 = excluded.sha256, expires = NULL"
)
"""Never over a row with ``stamps``: ``rules.merging.row`` decides those."""
_EXPIRING: Final = (
    "INSERT INTO _entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256, expires)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET"
    " body = excluded.body, origin = excluded.origin, seq = excluded.seq, hlc = excluded.hlc,"
    " lsn = excluded.lsn, sha256 = excluded.sha256, expires = excluded.expires"
)
"""The same for rows of which some expire."""
_EXPIRING_COLUMNS: Final = _EXPIRING.count("?")
_ROW: Final = (
    "INSERT INTO _entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256, stamps, expires)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET"
    " body = excluded.body, origin = excluded.origin, seq = excluded.seq, hlc = excluded.hlc,"
    " lsn = excluded.lsn, sha256 = excluded.sha256, stamps = excluded.stamps, expires = excluded.expires"
)
_ANY_NOTE: Final = "SELECT 1 FROM _entgldb_successors LIMIT 1"
_NOTE_OF: Final = "SELECT 1 FROM _entgldb_successors WHERE origin = ? AND seq = ?"
HANDED_ROWS: Final = 250
"""Rows of the log that a database elsewhere gets at a time."""
TIDY_ROWS: Final = 2_000
"""Notes about parents that ``tidy`` looks at in one go."""


@runtime_checkable
class Far(Protocol):
    """A connection each of whose answers takes a while: it is asked once."""

    def execute_any(
        self, sql: str, parameters: Sequence[Any], texts: Sequence[str]
    ) -> Iterable[tuple[Any, ...]]:
        """The rows that a statement with ``IN (?)`` as its last parameter gives for any of many texts."""

    def hand_over(self) -> None:
        """Have it begin with what was written."""


class Batch:
    """Changes of documents, log and conflicts inside one transaction. ``flush`` before anyone reads."""

    def __init__(self, connection: sqlite3.Connection, state: State) -> None:
        self.connection = connection
        self._far = connection if isinstance(connection, Far) else None
        self.state = state
        self._log: list[list[Any]] = []
        self.request: bytes | None = None
        """The request whose first row the next one is."""
        self._runs: list[tuple[int, int, bytes]] = []
        self._documents: list[tuple[Any, ...]] = []
        self.known: dict[tuple[str, str], Current | None] = {}
        """The versions that keys have now, of those that were looked up together or written since
        ``forget``."""
        self._bodies: dict[tuple[str, str], str | None] = {}
        """The bodies that wait for the next flush."""
        self._moments: dict[tuple[str, str], int] = {}
        """Their moments, from the first with an optional field on; 0: none."""
        self._notes: bool | None = None
        """Whether there may be a note about a successor; None: it was not looked since the last flush."""
        self.flushed = 0
        """Rows changed by ``flush``, as the connection counts them."""

    def current(self, collection: str, key: str) -> Current | None:
        """The version a key has now, changes not yet flushed included."""
        place = (collection, key)
        if place in self.known:
            return self.known[place]
        row = self.connection.execute(_CURRENT, place).fetchone()
        return None if row is None else Current(row[0], row[1], row[2], row[3] == 1, row[4] == 1)

    def look_up(self, places: Iterable[tuple[str, str]]) -> None:
        """Have ``known`` tell the version that each of many keys has now."""
        known = self.known
        missing = {place for place in places if place not in known}
        if not missing:
            return
        if len(missing) == 1:
            (place,) = missing
            known[place] = self.current(*place)
            return
        known.update(dict.fromkeys(missing))
        for collection, group in groupby(sorted(missing), key=itemgetter(0)):
            rows = _current_of(self.connection, collection, [key for _, key in group])
            for key, origin, seq, hlc, live, merged in rows:
                known[collection, key] = Current(origin, seq, hlc, live == 1, merged == 1)

    def text(self, place: tuple[str, str]) -> str | None:
        """The body a key has now, changes not yet flushed included."""
        if place in self._bodies:
            return self._bodies[place]
        row = self.connection.execute(_BODY, place).fetchone()
        return None if row is None else row[0]

    def moment(self, place: tuple[str, str]) -> int:
        """The moment at which the document of a key expires; 0: it does not, or there is none."""
        if place in self._bodies:
            return 0 if self._bodies[place] is None else self._moments.get(place, 0)
        row = self.connection.execute(
            "SELECT expires FROM _entgldb_documents WHERE collection = ? AND key = ? AND body IS NOT NULL",
            place,
        ).fetchone()
        return 0 if row is None else row[0] or 0

    def log(
        self,
        header: Header,
        raw: bytes,
        digest: bytes,
        text: str | bytes | None,
        applied: int,
        signature: bytes | None = None,
    ) -> int:
        """Append a row to the log; its lsn. ``applied``: RECORDED, APPLIED or UNFIT.

        An own one is signed later: by the end of the transaction.
        """
        state = self.state
        lsn = state.next_lsn()
        size = len(raw) + (0 if text is None else len(text))
        state.entries += 1
        state.log_bytes += size
        origin, seq, hlc, collection, key = header[:5]
        number = state.origins[origin].number
        row = [lsn, number, seq, digest, collection, key, raw, text, applied, signature, hlc, self.request, 0]
        self._log.append(row)
        if seq == 1 or (header.optional and header.begins):
            self._runs.append((number, seq, digest))
        self.request = None
        if origin == state.own and signature is None:
            state.unsigned += size
            state.unsigned_row = row
        return lsn

    def replace(self, header: Header, text: str | None, lsn: int, before: Current | None) -> None:
        """Make the entry the current version of its key; ``text`` None, or past its moment, leaves a
        tombstone."""
        state = self.state
        if header.collection not in state.collections:
            ensure_collection(self.connection, state, header.collection)
        origin, seq, hlc, collection, key = header[:5]
        number, sha = state.origins[origin].number, header.body_sha256 or None
        if header.optional or self._moments:
            self._moments[collection, key] = expires = header.expires
            if 0 < expires <= state.time_ms:
                text = sha = None
            elif expires:
                state.note_moment(expires)
            self._documents.append((collection, key, text, number, seq, hlc, lsn, sha, expires or None))
        else:
            self._documents.append((collection, key, text, number, seq, hlc, lsn, sha))
        self.known[collection, key] = Current(origin, seq, hlc, text is not None)
        self._bodies[collection, key] = text
        grown = (text is not None) - (before is not None and before.live)
        if grown:
            state.documents += grown
            # a change that no row tells makes the state be saved
            if self._log and self._log[-1][0] == lsn:
                self._log[-1][GREW] = grown
        if collection == COLLECTIONS:
            self._set_rule(key, text)

    def write(
        self,
        place: tuple[str, str],
        newest: Tip,
        saved: tuple[str | None, bytes | None],
        lsn: int,
        *,
        was_live: bool,
    ) -> None:
        """Write a row, body and stamps. To be called after ``flush`` or ``settle``."""
        state, (body, stamps) = self.state, saved
        if place[0] not in state.collections:
            ensure_collection(self.connection, state, place[0])
        number = state.origins[newest.origin].number
        sha = None if body is None else digest(body.encode())
        values = (body, number, newest.seq, newest.hlc, lsn, sha, stamps, newest.expires or None)
        self.connection.execute(_ROW, (*place, *values))
        self.known[place] = Current(*newest[:3], body is not None, stamps is not None)
        if newest.expires and body is not None:
            state.note_moment(newest.expires)
        state.documents += (body is not None) - was_live
        if place[0] == COLLECTIONS:
            self._set_rule(place[1], body)

    def bury(self, collection: str, key: str) -> None:
        """Take away a document that no entry has deleted: its row says so to change feeds, to nobody else."""
        self.connection.execute(
            "UPDATE _entgldb_documents SET body = NULL, sha256 = NULL, stamps = NULL, hlc = 0, lsn = ?,"
            " expires = NULL WHERE collection = ? AND key = ?",
            (self.state.next_lsn(), collection, key),
        )
        self.known.pop((collection, key), None)

    def clear_conflict(self, place: tuple[str, str], version: Version) -> None:
        """A version of a key has a successor: it is no conflict any more. (Where a log has two branches, its
        number alone may be that of a version of another key.)
        """
        known = self.state.origins.get(version.origin)
        if known is not None and self.state.conflicts:
            self.state.conflicts -= self.connection.execute(
                "DELETE FROM _entgldb_conflicts WHERE origin = ? AND seq = ? AND collection = ? AND key = ?",
                (known.number, version.seq, *place),
            ).rowcount

    def is_of(self, version: Version, collection: str, key: str) -> bool:
        """Whether the log has an entry as a version of this key, applied."""
        self.flush()
        row = self.connection.execute(
            "SELECT 1 FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE o.name = ? AND l.seq = ? AND l.collection = ? AND l.key = ? AND l.applied = 1",
            (*version, collection, key),
        ).fetchone()
        return row is not None

    def conflicts_of(self, collection: str, key: str) -> list[Version]:
        """The newest versions of a key that lost, as many as an entry can name."""
        if not self.state.conflicts:
            return []
        rows = self.connection.execute(
            "SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
            " WHERE c.collection = ? AND c.key = ? ORDER BY c.hlc DESC, o.name LIMIT ?",
            (collection, key, NAMED_MAX),
        )
        return [Version(*row) for row in rows.fetchall()]

    def keep_loser(self, collection: str, key: str, loser: Loser) -> None:
        """A version whose change was overwritten: keep it as a conflict, unless its moment has passed."""
        tip = loser.tip
        if 0 < tip.expires <= self.state.time_ms:
            return
        row = (self.state.origins[tip.origin].number, tip.seq, tip.hlc, collection, key, loser.text)
        rule = "lww" if loser.whole else "merge"
        self.state.conflicts += self.connection.execute(
            "INSERT OR IGNORE INTO _entgldb_conflicts"
            " (origin, seq, hlc, collection, key, body, found_ms, rule, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, self.state.lived_ms, rule, tip.expires or None),
        ).rowcount
        if tip.expires:
            self.state.note_moment(tip.expires)
        evict(self.connection, self.state)

    def note_successor(self, version: Version) -> int:
        """Note that an entry that names ``version`` came before it, so that ``version`` becomes no conflict
        later.

        Gives how many of the oldest notes had to make room.
        """
        noted = self.connection.execute(
            "INSERT OR IGNORE INTO _entgldb_successors (origin, seq) VALUES (?, ?)", version
        )
        if not noted.rowcount:
            return 0
        self._notes = True
        return self.connection.execute(
            "DELETE FROM _entgldb_successors WHERE id <= ?", ((noted.lastrowid or 0) - SUCCESSORS_MAX,)
        ).rowcount

    def has_successor(self, version: Version) -> bool:
        """Whether an entry that names ``version`` as its parent came before it."""
        if self._notes is None:
            self._notes = self.connection.execute(_ANY_NOTE).fetchone() is not None
        return self._notes and self.connection.execute(_NOTE_OF, version).fetchone() is not None

    @property
    def waits(self) -> bool:
        """Whether something was gathered."""
        return bool(self._log or self._documents)

    def flush(self) -> None:
        """Write what was gathered."""
        self._write()
        self.forget()

    def hand_over(self) -> None:
        """Where much was gathered, have a database elsewhere write it while more is gathered.

        Nobody else has changed a row since, so ``known`` stays.
        """
        if self._far is not None and len(self._log) >= HANDED_ROWS:
            self._write()
            self._drop()
            self._far.hand_over()

    def settle(self, place: tuple[str, str]) -> None:
        """Before somebody reads the row of one key: write what was gathered, if anything is of that row.

        Nobody else has changed a row since, so ``known`` stays.
        """
        if place in self._bodies:
            self._write()
            self._drop()

    def _write(self) -> None:
        if self.waits:
            connection, log = self.connection, self._log
            before = connection.total_changes
            connection.executemany(_LOG, log)
            self._flush_documents()
            if self._runs:
                runs.note(connection, self._runs)
            self.flushed += connection.total_changes - before
            if log:
                self.state.logged(_effect(log), {row[1]: (row[2], row[3], row[10]) for row in log})

    def _flush_documents(self) -> None:
        if not self._moments:
            self.connection.executemany(_DOCUMENT, self._documents)
            return
        # those from before the first that expires have no place for a moment
        rows = (row if len(row) == _EXPIRING_COLUMNS else (*row, None) for row in self._documents)
        self.connection.executemany(_EXPIRING, rows)

    def mark(self) -> tuple[int, int, int]:
        """How much was gathered, for ``back_to``."""
        return len(self._log), len(self._documents), len(self._runs)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """Drop what was gathered since; the rest is written."""
        del self._log[mark[0] :], self._documents[mark[1] :], self._runs[mark[2] :]
        self.flush()

    def forget(self) -> None:
        """Drop what was gathered since the last flush, and what is known of the rows that are there."""
        self._drop()
        self.known.clear()
        self._notes = None

    def _drop(self) -> None:
        self._log.clear()
        self._runs.clear()
        self._documents.clear()
        self._bodies.clear()
        self._moments.clear()

    def _set_rule(self, collection: str, setting: str | None) -> None:
        state, life = self.state, life_of(setting)
        (state.merging.add if merges(collection, setting) else state.merging.discard)(collection)
        if life is None:
            state.lives.discard(collection)
        else:
            state.lives[collection] = life

    def tidy(self, after: int) -> int:
        """Drop conflict rows found too long ago, and of some notes those about parents that have come since.

        ``after``: what the last call gave, 0 at first.
        """
        self.state.conflicts -= self.connection.execute(
            "DELETE FROM _entgldb_conflicts WHERE found_ms < ?",
            (self.state.lived_ms - CONFLICTS_KEPT_MS_MAX,),
        ).rowcount
        step = self.connection.execute(
            "SELECT id FROM _entgldb_successors WHERE id > ? ORDER BY id LIMIT ?", (after, TIDY_ROWS)
        ).fetchall()
        last = int(step[-1][0]) if step else 0
        self.connection.execute(
            "DELETE FROM _entgldb_successors WHERE id > ? AND id <= ? AND (EXISTS ("
            "SELECT 1 FROM _entgldb_origins o"
            " JOIN _entgldb_oplog l ON l.origin = o.id WHERE o.name = _entgldb_successors.origin"
            " AND l.seq = _entgldb_successors.seq AND l.applied = 1)"
            # every pruned entry had been applied
            " OR EXISTS (SELECT 1 FROM _entgldb_origins o WHERE o.name = _entgldb_successors.origin"
            " AND o.floor >= _entgldb_successors.seq))",
            (after, last),
        )
        return last if len(step) == TIDY_ROWS else 0


def _effect(log: Sequence[Sequence[Any]]) -> Rows:
    clock = grew = size = 0
    for _, _, _, _, _, _, raw, text, _, _, hlc, _, grown in log:
        clock = hlc if hlc > clock else clock
        grew += grown
        size += len(raw) if text is None else len(raw) + len(text)
    return Rows(log[-1][0], clock, grew, len(log), size)


def _current_of(
    connection: sqlite3.Connection, collection: str, keys: list[str]
) -> Iterator[tuple[Any, ...]]:
    """The rows of ``_CURRENT_OF_ANY`` for many keys. Nothing is written meanwhile."""
    if isinstance(connection, Far):
        yield from connection.execute_any(_CURRENT_OF_ANY, (collection,), keys)
        return
    for start in range(0, len(keys), TOGETHER):
        part = keys[start : start + TOGETHER]
        # the same key again is found once: one statement for every number of keys
        yield from connection.execute(
            _CURRENT_OF_MANY, (collection, *part, *part[-1:] * (TOGETHER - len(part)))
        )
