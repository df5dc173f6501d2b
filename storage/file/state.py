"""The state that the one writer keeps in memory and saves with every commit."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final, NamedTuple

from entgldb.messages.limits import ORIGINS_MAX
from entgldb.messages.model import ALWAYS_MERGED, COLLECTIONS, Origin, Vector
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merge import NO_HEAD, Head
from entgldb.storage.rules.merging.collection_rule import merges

_COLUMNS: Final = [
    "clock",
    "lsn",
    "documents",
    "entries",
    "conflicts",
    "pruned_lsn",
    "collected_lsn",
    "collected_hlc",
    "log_bytes",
    "lived_ms",
    "shown_ms",
]
"""Of ``_entgldb_state``; the fields of ``State`` that hold them have their names and their order."""
_LOAD: Final = f"SELECT {', '.join(_COLUMNS)} FROM _entgldb_state"  # noqa: S608 -- constants
_SAVE: Final = f"UPDATE _entgldb_state SET {', '.join(f'{name} = ?' for name in _COLUMNS)}"  # noqa: S608 -- constants
_numbers: Final = attrgetter(*_COLUMNS)


class Known(NamedTuple):
    """An origin as the file knows it."""

    number: int
    head: Head
    floor: int = 0
    """Newest seq whose log rows are pruned, or were never here because a snapshot brought what they did."""


@dataclass(slots=True)
class State:
    """Copied at the beginning of a transaction and put back when it is undone."""

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
    """How long a store has had this file open, all its lives together, by the monotonic clock: data that is
    kept for a time ages by it, so that no step of the wall clock can make anything old."""
    shown_ms: int = 0
    """The latest time that this node's own wall clock has shown, or that an operator has let in."""
    origins: dict[Origin, Known] = field(default_factory=dict)
    held: dict[Origin, Head] = field(default_factory=dict)
    """Newest held entry of each origin that has any."""
    ended: dict[Origin, int] = field(default_factory=dict)
    """Logs that their own node has ended: nothing is taken of them behind this seq."""
    collections: set[str] = field(default_factory=set)
    merging: set[str] = field(default_factory=set)
    """Collections whose own writes are merges."""
    dirty: set[Origin] = field(default_factory=set)
    """Origins whose head moved since the last save."""
    unfit: int = 0
    """Entries in quarantine because they cannot be applied here."""
    unfit_logged: bool = False
    """Whether the log has entries that are, or were, in quarantine."""

    @classmethod
    def load(cls, connection: sqlite3.Connection) -> State:
        """Read everything from the file."""
        numbers = connection.execute(_LOAD).fetchone()
        own = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'origin'").fetchone()
        state = cls("" if own is None else own[0], False, *numbers)
        rows = connection.execute("SELECT name, id, seq, head, quarantined, floor, hlc FROM _entgldb_origins")
        state.origins = {
            name: Known(n, Head(seq, head, bool(q), hlc), floor) for name, n, seq, head, q, floor, hlc in rows
        }
        state.held = _held(connection)
        state.ended = dict(connection.execute("SELECT origin, seq FROM _entgldb_ended").fetchall())
        names = connection.execute("SELECT name FROM _entgldb_collections")
        state.collections = {name for (name,) in names}
        (state.unfit,) = connection.execute("SELECT count(*) FROM _entgldb_quarantine").fetchone()
        state.unfit_logged = (
            connection.execute("SELECT 1 FROM _entgldb_oplog WHERE applied = 2 LIMIT 1").fetchone()
            is not None
        )
        state.merging = merging_collections(connection)
        return state

    def put_back(self, before: State) -> None:
        """Be as ``before`` was, for whoever holds this very object."""
        for field_ in fields(State):
            setattr(self, field_.name, getattr(before, field_.name))

    def copy(self) -> State:
        """A copy that later changes leave alone."""
        made = State(self.own, self.disowned, *_numbers(self))
        made.unfit, made.unfit_logged = self.unfit, self.unfit_logged
        made.origins, made.held, made.ended = self.origins.copy(), self.held.copy(), self.ended.copy()
        made.collections, made.merging = self.collections.copy(), self.merging.copy()
        made.dirty = self.dirty.copy()
        return made

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what moved; the last act before COMMIT."""
        for origin in self.dirty:
            number, head, floor = self.origins[origin]
            connection.execute(
                "UPDATE _entgldb_origins SET seq = ?, head = ?, quarantined = ?, hlc = ?, floor = ?"
                " WHERE id = ?",
                (*head, floor, number),
            )
        self.dirty.clear()
        connection.execute(_SAVE, _numbers(self))

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

    def move(self, origin: Origin, head: Head) -> None:
        """Set a known origin's head."""
        self.origins[origin] = self.origins[origin]._replace(head=head)
        self.dirty.add(origin)

    def end(self, connection: sqlite3.Connection, origin: Origin, seq: int) -> None:
        """Nothing is taken of ``origin`` behind ``seq`` any more, and what is held behind it goes."""
        if origin not in self.ended and len(self.ended) >= ORIGINS_MAX:
            return
        seq = self.ended[origin] = min(seq, self.ended.get(origin, seq))
        connection.execute("INSERT OR REPLACE INTO _entgldb_ended VALUES (?, ?)", (origin, seq))
        # a node ends its own logs only: it has to go on as another writer
        self.disowned |= origin == self.own
        if origin in self.held and self.held[origin].seq > seq:
            number = self.origins[origin].number
            connection.execute("DELETE FROM _entgldb_held WHERE origin = ? AND seq > ?", (number, seq))
            del self.held[origin]
            self.held |= _held(connection, "WHERE h.origin = ?", number)

    def raise_floor(self, origin: Origin, seq: int) -> None:
        """The log of a known origin begins after ``seq`` now."""
        known = self.origins[origin]
        if seq > known.floor:
            self.origins[origin] = known._replace(floor=seq)
            self.dirty.add(origin)

    def vector(self) -> Vector:
        """Origin -> (newest contiguous seq, its hash)."""
        return {o: (k.head.seq, k.head.hash) for o, k in self.origins.items() if k.head.seq}


def _held(connection: sqlite3.Connection, where: str = "", *values: int) -> dict[Origin, Head]:
    """The newest held entry of each origin that has any."""
    # of the bare columns beside a maximum SQLite gives those of its row
    rows = connection.execute(
        "SELECT o.name, max(h.seq), h.hash, h.header FROM _entgldb_held h"  # noqa: S608 -- a constant
        f" JOIN _entgldb_origins o ON o.id = h.origin {where} GROUP BY h.origin",
        values,
    )
    return {name: Head(seq, digest, hlc=decode(raw).hlc) for name, seq, digest, raw in rows}


def merging_collections(connection: sqlite3.Connection) -> set[str]:
    """Names of all collections that merge."""
    rows = connection.execute(
        "SELECT key, body FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL", (COLLECTIONS,)
    )
    return {key for key, body in rows if merges(key, body)} | ALWAYS_MERGED
