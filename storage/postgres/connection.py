"""The part of ``sqlite3.Connection`` that the code of ``storage`` uses, for one tenant on PostgreSQL.

A group begins by locking the tenant's row: rows are read and numbered behind it alone, so the order of
commits is the order of numbers, without gaps. The row is written last. A read outside of a group is one
transaction, and one round trip. Within a group a statement that changes rows waits until an answer is
needed, and goes in that round trip, in order; at a savepoint none waits. ``hand_over`` sends those that wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, Final

import psycopg

from entgldb.messages.errors import EntglError, ErrorCode, UnavailableError
from entgldb.storage.file.faults import DatabaseFault
from entgldb.storage.postgres.merging.staged import Staged
from entgldb.storage.postgres.schema import NOTES
from entgldb.storage.postgres.server import (
    CAN_START,
    SET_TO_READ,
    SET_TO_WRITE,
    Line,
    PostgresFault,
    Server,
    check_committed,
    refusals,
    side_of,
)
from entgldb.storage.postgres.tables import on_postgres, on_side
from entgldb.storage.postgres.translate import Rows, Translated, of_any, translate
from entgldb.storage.postgres.values import Array, Cursor, Waiting, arrays_of, as_stored, given_to
from entgldb.storage.snapshot.shadow import Shadow

_LOCK: Final = (
    "SELECT version, side, noted FROM entgldb_tenants WHERE tenant = $1 AND state = 'active' FOR UPDATE"
)
"""So a process that has not heard yet that a tenant is shut cannot write it any more."""
_VERSION: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1"
_UNLOCK: Final = "UPDATE entgldb_tenants SET version = $2 WHERE tenant = $1"
_RANDOM_BITS: Final = 20
"""Of a version: no two that follow the same one are alike, as after a copy was put back."""
_NOTE: Final = f"SELECT set_config('{NOTES}', $1, true)"
_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
PAGE_ROWS: Final = 1_000
"""Rows of a long read that are here at one time."""
ARRAY_ROWS: Final = 1_000
"""Rows that are written by one statement."""
WAITING_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of statements that wait for the next round trip."""
_ROW_BYTES: Final = 1_024
"""One row counts as so many, among them."""
_NOTHING: Final = ("CREATE VIEW ", "DROP VIEW ", "DROP TABLE IF EXISTS temp.", "PRAGMA shrink_memory")
"""A file has views, for people who look into it, and pages in memory; ``CREATE TEMP TABLE`` empties a table
here."""


class ReplacedError(UnavailableError, DatabaseFault):
    """PostgreSQL was restored or failed over: a tenant has to be opened anew, as all memory of it is void."""


class Connection:
    """One tenant's."""

    def __init__(self, server: Server, tenant: str, *, alone: bool = False) -> None:
        """``alone``: nobody else has the server's connections, which end with this one."""
        self.server = server
        self._alone_there = alone
        self.tenant = tenant
        self._changes = 0
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._begun: list[tuple[Waiting, psycopg.Cursor[Any]]] = []
        """Statements that were sent, and whose answers are here after the next round trip."""
        self.seen: int | None = None
        """The version of the tenant's row when this connection last saw it; None: nothing is known of it."""
        self.begun: Callable[[], None] = lambda: None
        """Called in a group that meets a row which is not as this connection saw it last."""
        self.shadow: Callable[[], Shadow] | None = None
        """Makes that of a merge in steps."""
        self._held: Line | None = None
        self._version: int | None = None
        """Of the row that is locked; None while none is."""
        self._traced: Callable[[str], object] | None = None
        self._changed = 0
        self._cursors = 0
        self._read_anew = False
        """Whether ``begun`` was called in the group that runs."""
        self._ahead: dict[tuple[str, tuple[Any, ...]], Cursor] = {}
        """Answers to what will be asked."""
        self.staged: Staged | None = None
        self._has_staged = False
        """Whether rows of it were brought into the group that runs."""
        self._side = 0
        """The tables of documents that the tenant shows, as this connection saw last."""
        self._other = False
        """Whether the names of documents mean the other side."""
        self._identity: str | None = None
        """That of the server at the first transaction."""

    @property
    def in_transaction(self) -> bool:
        return self._held is not None

    @property
    def total_changes(self) -> int:
        if any(one.counts for one in (*self._waiting, *(sent for sent, _ in self._begun))):
            self._ask()
        return self._changes

    @property
    def version(self) -> int:
        """Of the tenant's row, while a group or ``look`` goes on."""
        assert self._version is not None
        return self._version

    def set_trace_callback(self, callback: Callable[[str], object] | None) -> None:
        """Have each statement told before it is carried out."""
        self._traced = callback

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Cursor:
        """Raises PostgresFault, or EntglError ``unsupported``."""
        if self._traced is not None:
            self._traced(sql)
        if self.staged is not None and "staged." in sql:
            if self.staged.answers(sql):
                return self.staged.ask(sql, parameters)
            if self._held is not None and not self._has_staged:
                self._has_staged = True
                self.staged.bring(self._held, self.say, self.executemany, self.tenant)
        special = _SPECIAL.get(sql.split(" ", 1)[0])
        if special is not None:
            return special(self, sql, parameters)
        if self._ahead and (sql, tuple(parameters)) in self._ahead:
            return self._ahead.pop((sql, tuple(parameters)))
        known = self._translated(sql)
        given = [self.tenant, *given_to(known, parameters)]
        if self._held is None:
            if known.changes:
                with self._alone():
                    return self.execute(sql, parameters)
            return self._read(partial(translate, sql), given)
        if self._version is None:
            return Cursor(self._streamed(self._held, known, given))
        if known.returns:
            return self._result(known, self._ask((known.sql, given))[-1])
        cursor = Cursor(settle=self._ask)
        self._later(Waiting(known.sql, given, known.numbers, cursor=cursor))
        return cursor

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        """As ``execute`` for each of the rows; many go in one statement where that does the same."""
        if self._held is None:
            with self._alone():
                return self.executemany(sql, rows)
        known = self._translated(sql)
        if known.rows is None:
            for row in rows:
                self._later(Waiting(known.sql, [self.tenant, *given_to(known, row)]))
            return Cursor()
        every = [*rows]
        for start in range(0, len(every), ARRAY_ROWS):
            self._write_many(known, known.rows, every[start : start + ARRAY_ROWS])
        return Cursor()

    def execute_any(self, sql: str, parameters: Sequence[Any], texts: Sequence[str]) -> Cursor:
        """As ``execute`` of a statement which reads and ends by ``IN (?)``, for any of many texts."""
        known = of_any(sql, self._side ^ self._other)
        given = [self.tenant, *parameters, Array.of("TEXT", texts)]
        if self._held is None:
            return self._read(partial(of_any, sql), given)
        return self._result(known, self._ask((known.sql, given))[-1])

    def hand_over(self) -> None:
        """Have PostgreSQL begin with all that waits, while this process does something else, where it can."""
        if not CAN_START:
            return
        assert self._held is not None
        with refusals():
            sent = self._held.start([(one.sql, one.given) for one in self._waiting])
        self._begun += zip(self._waiting, sent, strict=True)
        self._waiting = []

    @contextmanager
    def ahead(self, *reads: tuple[str, tuple[Any, ...]]) -> Iterator[None]:
        """Within a group or ``look``: these statements, each with its parameters, take one round trip.

        They are carried out now; nothing must be written before they are asked.
        """
        known = [self._translated(sql) for sql, _ in reads]
        found = self._ask(
            *((one.sql, [self.tenant, *given]) for one, (_, given) in zip(known, reads, strict=True))
        )
        answers = map(self._result, known, found)
        self._ahead = dict(zip(reads, answers, strict=True))
        try:
            yield
        finally:
            self._ahead = {}

    def look(self) -> None:
        """Within a read: call ``begun`` where the row is not as this connection saw it last."""
        assert self._held is not None
        with refusals():
            self.server.trips += 1
            row = self._held.execute(_VERSION, [self.tenant]).fetchone()
        if row is None or row[0] != self.seen:
            self.seen = None
            # from here on rows come as within a group: all of a statement at once
            self._version, self._read_anew = 0 if row is None else row[0], False
            try:
                self.begun()
            finally:
                self._version = None
            self.seen = None if row is None else row[0]

    def say(self, sql: str, *given: Any) -> None:
        """Within a group: a statement of PostgreSQL's own, which changes no rows that anybody sees."""
        self._later(Waiting(sql, given, counts=False))

    def ask(self, sql: str, *given: Any) -> list[tuple[Any, ...]]:
        """The same, of one that gives rows."""
        return self._ask((on_side(sql, self._side ^ self._other), given))[-1].fetchall()

    def enter(self, *, other: bool) -> None:
        """From here on the names of documents mean the other side, of which nothing is noted, or, while
        it is noted of which keys anything changes, that which the tenant shows."""
        self._other = other
        self.say(_NOTE, "0" if other else "1")

    def stay(self) -> None:
        """The other side is what the tenant shows from now on."""
        self._side, self._other = 1 - self._side, False

    def close(self) -> None:
        """Roll back what is open. The server's connections stay."""
        if self._held is not None:
            self._rollback()
        self._detach()
        if self._alone_there:
            self.server.close()

    # --- statements of rows ----------------------------------------------------------------------

    def _write_many(self, known: Translated, how: Rows, rows: list[Sequence[Any]]) -> None:
        if how.key:
            # the last of several rows of one key is what would stand
            rows = list(dict(zip(map(itemgetter(*how.key), rows), rows, strict=True)).values())
        arrays = arrays_of(known, how, rows)
        if how.writes_each:
            self._changes += len(rows)
        waiting = Waiting(how.sql, [self.tenant, *arrays], counts=not how.writes_each)
        self._later(waiting, sum(map(len, arrays)))

    def _later(self, one: Waiting, size: int = _ROW_BYTES) -> None:
        """Have a statement wait for the next round trip."""
        self._waiting.append(one)
        self._waiting_bytes += size
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._ask()

    def _ask(self, *statements: tuple[str, Sequence[Any]]) -> list[psycopg.Cursor[Any]]:
        """All that waits, then these statements, in one round trip; what each of these gave."""
        held, waiting, begun = self._held, self._waiting, self._begun
        assert held is not None
        self._waiting, self._begun, self._waiting_bytes = [], [], 0
        if not (waiting or begun or statements):
            return []
        with refusals():
            self.server.trips += 1
            if not (waiting or begun) and len(statements) == 1:
                return [held.execute(*statements[0])]
            with held.together():
                begun += [(one, held.execute(one.sql, one.given)) for one in waiting]
                asked = [held.execute(*one) for one in statements]
        for one, found in begun:
            if one.counts:
                self._changes += found.rowcount
            if one.cursor is not None:
                row = found.fetchone() if one.numbers else None
                one.cursor.tell(found.rowcount, row[0] if row else None)
        return asked

    def _translated(self, sql: str) -> Translated:
        return translate(sql, self._side ^ self._other)

    def _read(self, made: Callable[[int], Translated], given: list[Any]) -> Cursor:
        """A transaction of one statement, in one round trip; another where the tenant has changed sides."""
        while True:
            known = made(self._side)
            with refusals():
                shown, found = self._read_once(known.sql, given)
            if shown in (self._side, None):
                return self._result(known, found)
            self._side = shown

    def _read_once(self, sql: str, given: list[Any]) -> tuple[int | None, psycopg.Cursor[Any]]:
        """The side that the tenant shows, if there is one, and what a statement gives at the same moment."""
        held = self._lease()
        try:
            self.server.trips += 1
            with held.pipeline():
                held.execute(_READ)
                told = held.execute(SET_TO_READ, [self.tenant])
                found = held.execute(sql, given)
                held.execute("COMMIT")
            return side_of(told), found
        except psycopg.Error:
            held.close()
            raise
        finally:
            self.server.give_back(held)

    def _streamed(self, held: Line, known: Translated, given: list[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a long read, a page in memory at a time; others may be read meanwhile."""
        self._cursors += 1
        with refusals(), psycopg.RawServerCursor(held, f"c{self._cursors}") as cursor:
            cursor.itersize = PAGE_ROWS
            cursor.execute(known.sql, given)
            for row in cursor:
                yield as_stored(row, known) if known.as_bytes or known.marked else row

    def _result(self, known: Translated, found: psycopg.Cursor[Any]) -> Cursor:
        rows = found.fetchall() if found.description else []
        if known.changes:
            self._changes += found.rowcount
        if known.as_bytes or known.marked:
            rows = [as_stored(row, known) for row in rows]
        return Cursor(rows, found.rowcount)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction of its own around what would be one by itself in SQLite."""
        self._begin("BEGIN IMMEDIATE", ())
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        self._commit("COMMIT", ())

    # --- transactions ----------------------------------------------------------------------------

    def _begin(self, sql: str, _: object) -> Cursor:
        writes = sql != "BEGIN"
        held = self._lease()
        try:
            with refusals():
                self.server.trips += 1
                with held.pipeline():
                    held.execute(_WRITE if writes else _READ)
                    found = held.execute(SET_TO_WRITE if writes else SET_TO_READ, [self.tenant])
                    found = held.execute(_LOCK, [self.tenant]) if writes else found
                row = found.fetchone() if writes else None
        except BaseException:
            held.close()
            self.server.give_back(held)
            raise
        self._held, self._other = held, False
        self._has_staged = False
        if not writes:
            self._side = side_of(found) or 0
            return Cursor()
        if row is None:
            self._rollback()
            raise EntglError(f"PostgreSQL has no active tenant {self.tenant}", code=ErrorCode.NOT_FOUND)
        self._version, self._changed = row[0], self._changes
        if self.server.went_back(self.tenant, row[0]):
            self._rollback()
            raise ReplacedError(f"tenant {self.tenant} is older on PostgreSQL than it was")
        _, self._side, noted = row
        if noted:
            self.enter(other=False)
        self._read_anew = self.seen != self._version
        if self._read_anew:
            self.seen = self._version
            self.begun()
        return Cursor()

    def _commit(self, _sql: str, _: object) -> Cursor:
        version = self._version
        if self._has_staged and self.staged is not None:
            self.staged.forget(self.say, self.tenant)
        new = 0 if version is None else _next(version)
        # it may be in the database although it fails
        before, self.seen = self.seen, None
        try:
            changed = version is not None and self._has_changed()
            unlock = [(_UNLOCK, [self.tenant, new])] if changed else []
            check_committed(self._ask(*unlock, ("COMMIT", ()))[-1])
        except BaseException:
            self._rollback()
            raise
        self._let_go()
        self.seen = before
        if changed:
            self.seen = self.server.newest[self.tenant] = new
        return Cursor()

    def _has_changed(self) -> bool:
        # a count that is not known costs a trip
        return self._changes != self._changed or self.total_changes != self._changed

    def _rollback(self, sql: str = "ROLLBACK", _: object = ()) -> Cursor:
        held = self._held
        assert held is not None
        self._waiting, self._begun, self._waiting_bytes = [], [], 0
        held.let_be()
        if sql != "ROLLBACK":
            return self._raw(sql, ())
        if self._read_anew:
            # the memory is put back to what it was before
            self.seen = None
        try:
            with refusals():
                self.server.trips += 1
                held.execute("ROLLBACK")
        except PostgresFault:
            # a transaction whose connection is lost is rolled back by the server
            held.close()
            self.seen = None
        finally:
            self._let_go()
        return Cursor()

    def _lease(self) -> Line:
        """A connection to the PostgreSQL that this one began on. Raises PostgresFault, ReplacedError."""
        held = self.server.lease()
        if self._identity is None:
            self._identity = self.server.identity
        if self._identity != self.server.identity:
            self.server.give_back(held)
            raise ReplacedError(f"tenant {self.tenant} was opened on another PostgreSQL")
        return held

    def _let_go(self) -> None:
        held, self._held, self._version = self._held, None, None
        assert held is not None
        if self._has_staged:
            # plans made with ``_NO_LOOPS`` would be kept for statements of other groups, and its patience
            held.close()
        self.server.give_back(held)

    def _raw(self, sql: str, _: object) -> Cursor:
        self._ask((sql, ()))
        return Cursor()

    # --- what a file has otherwise ----------------------------------------------------------------

    def _create(self, sql: str, _: object) -> Cursor:
        if sql.startswith("CREATE TEMP TABLE "):
            self.say(f"DELETE FROM {on_postgres(sql.split(' ')[3], 'temp')} WHERE tenant = $1", self.tenant)  # noqa: S608 -- of ours
            return Cursor()
        return self._nothing(sql, ())

    def _nothing(self, sql: str, _: object) -> Cursor:
        if not sql.startswith(_NOTHING):
            raise EntglError(f"a cloud on PostgreSQL has no {sql[:60]!r}", code=ErrorCode.UNSUPPORTED)
        return Cursor()

    def _attach(self, _sql: str, parameters: Sequence[str]) -> Cursor:
        self.staged = Staged(parameters[0])
        return Cursor()

    def _detach(self, _sql: str = "", _: object = ()) -> Cursor:
        if self.staged is not None:
            self.staged.close()
            self.staged = None
        return Cursor()


_SPECIAL: Final[dict[str, Callable[[Connection, str, Any], Cursor]]] = {
    "BEGIN": Connection._begin,
    "COMMIT": Connection._commit,
    "ROLLBACK": Connection._rollback,
    "SAVEPOINT": Connection._raw,
    "RELEASE": Connection._raw,
    "CREATE": Connection._create,
    "DROP": Connection._nothing,
    "PRAGMA": Connection._nothing,
    "VACUUM": Connection._nothing,
    "ATTACH": Connection._attach,
    "DETACH": Connection._detach,
}


def _next(version: int) -> int:
    return ((version >> _RANDOM_BITS) + 1 << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)
