"""The state that the one writer keeps in memory, and the part of it that has to be saved.

Most commits save none of it: it follows from the rows of the log that came since the last save.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

from entgldb.messages.limits import ORIGINS_MAX
from entgldb.messages.model import ALWAYS_MERGED, COLLECTIONS, Origin, Vector, Version, node_of
from entgldb.storage.file.undo import Journal, UndoDict, UndoSet
from entgldb.storage.rules.chain import NO_HEAD, Head
from entgldb.storage.rules.ended import any_log, is_any_log, read_expulsion
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import life_of, merges

_COLUMNS: Final = (
    "clock, lsn, documents, entries, conflicts, pruned_lsn, collected_lsn, collected_hlc, log_bytes,"
    " lived_ms, shown_ms, time_ms"
)
"""Of ``_entgldb_state``; the fields of ``State`` that hold them have their names and their order."""
_numbers: Final[Callable[[State], tuple[int, ...]]] = attrgetter(*_COLUMNS.split(", "))
_LOAD: Final = f"SELECT {_COLUMNS} FROM _entgldb_now"  # noqa: S608 -- constants
_OWN: Final = "SELECT value FROM _entgldb_meta WHERE name = 'origin'"
_SAVED: Final = "SELECT saves, lsn, log_bytes, lived_ms, shown_ms FROM _entgldb_state"
_HEADS: Final = "SELECT name, id, seq, head, quarantined, hlc, floor, floor_hlc FROM _entgldb_heads"
_TAIL: Final = (
    "SELECT DISTINCT o.name FROM _entgldb_oplog l NOT INDEXED CROSS JOIN _entgldb_origins o"
    " ON o.id = l.origin WHERE l.lsn > (SELECT lsn FROM _entgldb_state)"
)
_HELD: Final = (
    "SELECT o.name, h.seq, h.hash, h.header FROM _entgldb_held h"
    " JOIN (SELECT origin, max(seq) AS seq FROM _entgldb_held GROUP BY origin) m"
    " ON m.origin = h.origin AND m.seq = h.seq"
    " JOIN _entgldb_origins o ON o.id = h.origin"
)
_ENDED: Final = "SELECT origin, seq FROM _entgldb_ended"
_NAMES: Final = "SELECT name FROM _entgldb_collections"
_UNFIT: Final = "SELECT count(*) FROM _entgldb_quarantine"
_UNFIT_LOGGED: Final = "SELECT 1 FROM _entgldb_oplog WHERE applied = 2 LIMIT 1"
_RULES: Final = (
    "SELECT key, body FROM _entgldb_documents"  # noqa: S608 -- a constant
    f" WHERE collection = '{COLLECTIONS}' AND body IS NOT NULL"
)
_SAVE: Final = f"UPDATE _entgldb_state SET saves = saves + 1, ({_COLUMNS}) = ({_COLUMNS.count(',') * '?, '}?)"  # noqa: S608 -- constants
_SOONEST: Final = (
    "SELECT min(expires) FROM (SELECT min(expires) AS expires FROM _entgldb_documents"
    " INDEXED BY _entgldb_expiring WHERE expires IS NOT NULL AND body IS NOT NULL UNION ALL"
    " SELECT min(expires) FROM _entgldb_conflicts INDEXED BY _entgldb_conflicts_expiring"
    " WHERE expires IS NOT NULL)"
)
READS: Final = (
    *(_LOAD, _OWN, _SAVED, _HEADS, _TAIL, _HELD, _ENDED, _NAMES, _UNFIT, _UNFIT_LOGGED, _RULES, _SOONEST),
)
"""All that ``State.load`` reads."""
SAVE_ROWS: Final = 1_000
"""Rows of the log after which the state is saved, so that whoever opens the file reads few."""
SAVE_BYTES: Final = 4 * 1024 * 1024
"""The same for bytes of those rows."""
SAVE_MS: Final = 1_000
"""The same for time: how old ``lived_ms`` and ``shown_ms`` in the file may be at a commit."""
CLIENTS_KNOWN_MAX: Final = 1_000
"""Clients whose newest request is remembered beyond a save."""


class Known(NamedTuple):
    """An origin as the file knows it."""

    number: int
    head: Head
    floor: int = 0
    """Newest seq whose log rows are pruned, or were never here because a snapshot brought what they did."""
    floor_hlc: int = 0
    """The stamp of the entry ``floor``, the greatest of those that are pruned."""


class Saved(NamedTuple):
    """The part of the state of the last save that bounds what may follow from the log since."""

    saves: int
    """How often the state was saved."""
    lsn: int
    log_bytes: int
    lived_ms: int
    shown_ms: int


class Rows(NamedTuple):
    """The effect of log rows that a transaction has written, as it can be read from them."""

    lsn: int = 0
    clock: int = 0
    documents: int = 0
    entries: int = 0
    log_bytes: int = 0


class Remembered(NamedTuple):
    """The answer to a request that wrote entries in a row, the last with ``lsn``."""

    origin: Origin
    first_seq: int
    entries: int
    lsn: int
    at_ms: int
    """When it was given, in the life of the store."""
    awaited: int = 0
    """The lowest request that its client still awaited then; 0: it did not say."""


RowHead = tuple[int, bytes, int]
"""Seq, hash and stamp of an entry."""
SEQ, SIGNATURE, GREW = 2, 9, 12
"""Places in a row of the log that waits to be written."""
_NO_ROWS: Final = Rows()
Moment = tuple[tuple[Any, ...], int]
"""A state as it was: the values of its fields, and how far the containers among them had been changed."""


@dataclass(slots=True)
class State:
    """Taken back when a transaction is undone; the same object all the time."""

    own: Origin = ""
    """The origin under which this node writes."""
    disowned: bool = False
    """Others have continued the log of ``own``, or have another one: it must not be written any more."""
    clock: int = 0
    lsn: int = 0
    documents: int = 0
    entries: int = 0
    conflicts: int = 0
    pruned_lsn: int = 0
    """Highest lsn of a log row that was pruned."""
    collected_lsn: int = 0
    """Highest lsn of a tombstone that was collected: an older change token may have missed its delete."""
    collected_hlc: int = 0
    """No tombstone that was collected, here or where a snapshot came from, has a greater clock value."""
    log_bytes: int = 0
    """Headers and bodies in the log, bodies counted by characters."""
    lived_ms: int = 0
    """Milliseconds, by the monotonic clock, for which a store has had the file open: data ages by it."""
    shown_ms: int = 0
    """The latest time that this node's own wall clock has shown, or that an operator has let in."""
    time_ms: int = field(default=0, compare=False)
    """The time, as far as this node knows it: a version whose moment is not later is not shown."""
    run: Origin = field(default="", compare=False)
    """The log in which something was written since the file was opened."""
    soonest_ms: int = field(default=0, compare=False)
    """No version that is shown expires before; 0: none expires."""
    origins: UndoDict[Origin, Known] = field(default_factory=UndoDict)
    held: UndoDict[Origin, Head] = field(default_factory=UndoDict)
    """Newest held entry of each origin that has any."""
    ended: UndoDict[Origin, int] = field(default_factory=UndoDict)
    """Logs that have an end, by their own node or because it was expelled: nothing behind it is taken."""
    uncut: bool = field(default=False, compare=False)
    """Whether something of an expelled node may be here that is behind its end."""
    collections: UndoSet[str] = field(default_factory=UndoSet)
    merging: UndoSet[str] = field(default_factory=UndoSet)
    """Collections whose own writes are merges."""
    lives: UndoDict[str, int] = field(default_factory=UndoDict)
    """Collection -> milliseconds for which own writes to it live, where that is bounded."""
    dirty: UndoSet[Origin] = field(default_factory=UndoSet)
    """Origins whose head moved since the last save."""
    moved: UndoSet[Origin] = field(default_factory=UndoSet, compare=False)
    """Origins whose head this transaction moved."""
    answers: UndoDict[tuple[bytes, int], Remembered] = field(default_factory=UndoDict, compare=False)
    """Client and counter -> what the log since the last save says that the answer was."""
    settled: UndoDict[bytes, int] = field(default_factory=UndoDict, compare=False)
    """Client -> the lowest of its requests that it still awaits, where no answer in ``answers`` tells it."""
    latest: UndoDict[bytes, int] = field(default_factory=UndoDict, compare=False)
    """Client -> the greatest counter that it has in ``answers``."""
    newest: UndoDict[bytes, int] = field(default_factory=UndoDict, compare=False)
    """Client -> counter behind which none of its requests was answered; of those that were looked up."""
    unfit: int = 0
    """Entries in quarantine because they cannot be applied here."""
    unfit_logged: bool = False
    """Whether the log has entries that are, or were, in quarantine."""
    unsigned: int = 0
    """Bytes of own entries since the last signed one; 0 between two transactions."""
    unsigned_row: list[Any] | None = field(default=None, compare=False)
    """The row of the last own entry while it waits to be written: its signature is put into it."""
    saved: Saved = field(default_factory=lambda: Saved(0, 0, 0, 0, 0))
    told: tuple[int, ...] = field(default=(), compare=False)
    """The numbers as they follow from the file."""
    rows: Rows = field(default=_NO_ROWS, compare=False)
    """Of this transaction."""
    row_heads: UndoDict[int, RowHead] = field(default_factory=UndoDict, compare=False)
    """The heads that rows of this transaction give, by the numbers of their origins."""
    loose: bool = field(default=False, compare=False)
    """Whether this transaction has changed something that no row of the log tells."""
    journal: Journal = field(default_factory=Journal, compare=False, repr=False)
    """Of all containers, since the transaction began."""

    def __post_init__(self) -> None:
        for value in _values_of(self):
            if isinstance(value, UndoDict | UndoSet):
                value.journal = self.journal

    @classmethod
    def load(cls, connection: sqlite3.Connection) -> State:
        """Read everything from the file."""
        numbers = connection.execute(_LOAD).fetchone()
        own = connection.execute(_OWN).fetchone()
        state = cls("" if own is None else own[0], False, *numbers)
        state.told = _numbers(state)
        state.saved = Saved(*connection.execute(_SAVED).fetchone())
        state.origins = UndoDict(
            (name, Known(n, Head(seq, head, bool(q), hlc), *floor))
            for name, n, seq, head, q, hlc, *floor in connection.execute(_HEADS)
        )
        state.dirty = UndoSet(name for (name,) in connection.execute(_TAIL))
        state.held = UndoDict(_held(connection))
        state.ended = UndoDict(connection.execute(_ENDED).fetchall())
        state.collections = UndoSet(name for (name,) in connection.execute(_NAMES))
        (state.unfit,) = connection.execute(_UNFIT).fetchone()
        state.unfit_logged = connection.execute(_UNFIT_LOGGED).fetchone() is not None
        state.merging, state.lives = collection_rules(connection)
        state.soonest_ms = soonest(connection)
        state.__post_init__()
        return state

    def begin(self) -> None:
        """A transaction begins: nobody comes back to a moment before."""
        self.moved.clear()
        self.row_heads.clear()
        self.journal.clear()
        self.rows, self.loose = _NO_ROWS, False

    def moment(self) -> Moment:
        """The present, for ``back_to``."""
        return _values_of(self), len(self.journal)

    def back_to(self, moment: Moment) -> None:
        """Be as at an earlier moment of this transaction."""
        values, journalled = moment
        for name, value in zip(_VALUES, values, strict=True):
            setattr(self, name, value)
        self.journal.back_to(journalled)

    def read_rules(self, connection: sqlite3.Connection) -> None:
        """Take the rules of all collections from the file."""
        merging, lives = collection_rules(connection)
        self.merging, self.lives = UndoSet(merging, self.journal), UndoDict(lives, self.journal)

    def note_moment(self, expires: int) -> None:
        """A version that is shown expires then."""
        if not 0 < self.soonest_ms <= expires:
            self.soonest_ms = expires

    def forget_answers(self) -> None:
        """The answers since the last save stand elsewhere, and will not follow from the log any more."""
        # the old ones are put back where the commit fails
        self.answers, self.settled, self.latest = (UndoDict(journal=self.journal) for _ in range(3))
        self.loose = True
        if len(self.newest) > CLIENTS_KNOWN_MAX:
            self.newest = UndoDict(journal=self.journal)

    def follows(self) -> bool:
        """Whether all of it follows from what was saved last and the rows of the log since.

        Nothing is taken on trust: what this transaction has made of each number and each head is compared
        with what its rows say.
        """
        if self.loose:
            return False
        clock, lsn, documents, entries, conflicts, pruned, collected, collected_hlc, size, *_ = self.told
        rows, saved = self.rows, self.saved
        wanted = (
            max(clock, rows.clock),
            max(lsn, rows.lsn),
            documents + rows.documents,
            entries + rows.entries,
            conflicts,
            pruned,
            collected,
            collected_hlc,
            size + rows.log_bytes,
        )
        if _numbers(self)[: len(wanted)] != wanted:
            return False
        for origin in self.moved:
            number, head, *_ = self.origins[origin]
            if (head.seq, head.hash, head.hlc) != self.row_heads.get(number):
                return False
        return (
            self.lsn - saved.lsn < SAVE_ROWS
            and self.log_bytes - saved.log_bytes < SAVE_BYTES
            and self.lived_ms - saved.lived_ms < SAVE_MS
            and self.shown_ms - saved.shown_ms < SAVE_MS
        )

    def save(self, connection: sqlite3.Connection, *, follows: bool = False) -> None:
        """Write what moved, unless it ``follows`` from the log; the last act before COMMIT."""
        self.told = _numbers(self)
        if follows:
            return
        for origin in self.dirty:
            number, head, *floor = self.origins[origin]
            connection.execute(
                "UPDATE _entgldb_origins SET seq = ?, head = ?, quarantined = ?, hlc = ?, floor = ?,"
                " floor_hlc = ? WHERE id = ?",
                (*head, *floor, number),
            )
        connection.execute(_SAVE, self.told)
        # the old ones are put back where the commit fails
        self.dirty = UndoSet(journal=self.journal)
        self.saved = Saved(self.saved.saves + 1, self.lsn, self.log_bytes, self.lived_ms, self.shown_ms)

    def next_lsn(self) -> int:
        """The number of the next row of the log, or of the next visible change that has none."""
        self.lsn += 1
        return self.lsn

    def known(self, connection: sqlite3.Connection, origin: Origin) -> Known:
        """The origin, made known to the file if it was not."""
        found = self.origins.get(origin)
        if found is None:
            cursor = connection.execute(
                "INSERT INTO _entgldb_origins (name, seq, head) VALUES (?, 0, x'')", (origin,)
            )
            number = cursor.lastrowid
            assert number is not None  # an INSERT into a rowid table has one
            found = self.origins[origin] = Known(number, NO_HEAD)
        return found

    def logged(self, rows: Rows, heads: Mapping[int, RowHead]) -> None:
        """Rows of the log were written, with these effects; ``heads``: of each origin the last of them."""
        self.unsigned_row = None
        if self.rows is _NO_ROWS:
            self.rows = rows
        else:
            _, clock, documents, entries, log_bytes = self.rows
            self.rows = Rows(
                rows.lsn,
                clock if clock > rows.clock else rows.clock,
                documents + rows.documents,
                entries + rows.entries,
                log_bytes + rows.log_bytes,
            )
        for number, head in heads.items():
            self.row_heads[number] = head

    def move(self, origin: Origin, head: Head) -> None:
        """Set a known origin's head."""
        known = self.origins[origin]
        if head == known.head:
            return
        self.loose |= head.forked != known.head.forked
        # for each entry that comes: ``_replace`` takes twice as long
        self.origins[origin] = Known(known.number, head, known.floor, known.floor_hlc)
        self.dirty.add(origin)
        self.moved.add(origin)

    def end(self, connection: sqlite3.Connection, origin: Origin, seq: int) -> None:
        """Nothing is taken of ``origin`` behind ``seq`` any more, and what is held behind it goes."""
        full = origin not in self.ended and len(self.ended) >= ORIGINS_MAX
        if full and not self._make_room(connection, origin):
            return
        self.end_at(connection, origin, min(seq, self.ended.get(origin, seq)))
        # a node ends its own logs only: it has to go on as another writer
        self.disowned |= origin == self.own
        for name in [one for one in self.held if one == origin or any_log(node_of(one)) == origin]:
            self._hold_no_more(connection, name)

    def end_at(self, connection: sqlite3.Connection, origin: Origin, seq: int | None) -> None:
        """The log ends there after all; None: it has no end. Entries that were refused come again."""
        if seq is None:
            self.ended.discard(origin)
            connection.execute("DELETE FROM _entgldb_ended WHERE origin = ?", (origin,))
        else:
            self.ended[origin] = seq
            connection.execute("INSERT OR REPLACE INTO _entgldb_ended VALUES (?, ?)", (origin, seq))

    def _hold_no_more(self, connection: sqlite3.Connection, origin: Origin) -> None:
        """Let entries go that are held of a log behind its end."""
        end, number = self.end_of(origin), self.origins[origin].number
        if end is not None and self.held[origin].seq > end:
            connection.execute("DELETE FROM _entgldb_held WHERE origin = ? AND seq > ?", (number, end))
            del self.held[origin]
            for name, head in _held(connection, " WHERE h.origin = ?", number).items():
                self.held[name] = head

    def _make_room(self, connection: sqlite3.Connection, origin: Origin) -> bool:
        """Whether the end of a log takes the place of one of which nothing is here: a member can say any
        number of those, and none of them keeps another from being expelled."""
        names = {node_of(known) for known in self.origins}

        def is_here(one: Origin) -> bool:
            return one in self.origins or (is_any_log(one) and node_of(one) in names)

        gone = next((one for one in reversed(self.ended) if not is_here(one)), None)
        if gone is None or not is_here(origin):
            return False
        del self.ended[gone]
        connection.execute("DELETE FROM _entgldb_ended WHERE origin = ?", (gone,))
        return True

    def end_of(self, origin: Origin) -> int | None:
        """The last seq of a log that is taken; None: it has no end."""
        end = self.ended.get(origin)
        return self.ended.get(any_log(node_of(origin))) if end is None else end

    def may_still_come(self, version: Version) -> bool:
        """Whether no word about an expelled node keeps this version of its out, so that it may come late.

        A node that expels it need not know each log. Nothing is taken of one of which nobody has said where
        it ends, but the word of a member that knows it counts, whenever it comes.
        """
        is_out = self.is_out(node_of(version.origin))
        return is_out and version.seq <= self.ended.get(version.origin, version.seq)

    def is_out(self, node_id: str) -> bool:
        """Whether a node was expelled, as far as is known here."""
        return any_log(node_id) in self.ended

    def expel(self, connection: sqlite3.Connection, key: str) -> None:
        """A member has expelled a node, by an entry with this key. The least of several ends counts."""
        end = read_expulsion(key, self.own)
        if end is None:
            return
        self.end(connection, *end)
        self.uncut = True

    def raise_floor(self, origin: Origin, seq: int, hlc: int) -> None:
        """The log of a known origin begins after ``seq`` now, which is stamped ``hlc``."""
        known = self.origins[origin]
        if seq > known.floor:
            self.origins[origin] = known._replace(floor=seq, floor_hlc=hlc)
            self.dirty.add(origin)
            self.loose = True

    def vector(self) -> Vector:
        """Origin -> (newest contiguous seq, its hash)."""
        return {o: (k.head.seq, k.head.hash) for o, k in self.origins.items() if k.head.seq}


_VALUES: Final = tuple(one.name for one in fields(State) if one.name != "journal")
_values_of: Final[Callable[[State], tuple[Any, ...]]] = attrgetter(*_VALUES)


def _held(connection: sqlite3.Connection, where: str = "", *values: int) -> dict[Origin, Head]:
    """The newest held entry of each origin that has any."""
    rows = connection.execute(_HELD + where, values)
    return {name: Head(seq, digest, hlc=decode(raw).hlc) for name, seq, digest, raw in rows}


def collection_rules(connection: sqlite3.Connection) -> tuple[UndoSet[str], UndoDict[str, int]]:
    """Names of all collections that merge, and how long documents live where that is bounded."""
    rows = connection.execute(_RULES).fetchall()
    lives = ((key, life_of(body)) for key, body in rows)
    merging = {key for key, body in rows if merges(key, body)} | ALWAYS_MERGED
    return UndoSet(merging), UndoDict((key, life) for key, life in lives if life is not None)


def soonest(connection: sqlite3.Connection) -> int:
    """The first moment at which something that is shown expires; 0: nothing does."""
    (found,) = connection.execute(_SOONEST).fetchone()
    return int(found or 0)
