"""The part of ``sqlite3.Connection`` that the code of ``storage`` uses, for one tenant on PostgreSQL.

A group begins by locking the tenant's row: rows are read and numbered behind it alone, so the order of
commits is the order of numbers, without gaps. The row is written last. A read outside of a group is one
transaction, and one round trip. Within a group a statement that changes rows waits until an answer is
needed, and goes in that round trip, in order; at a savepoint none waits.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from typing import Any, Final, NamedTuple

import psycopg

from entgldb.messages.errors import EntglError, ErrorCode, UnavailableError
from entgldb.storage.file.faults import DatabaseFault
from entgldb.storage.postgres.server import MERGE_S, SET, SET_TO_WRITE, Line, PostgresFault, Server, refusals
from entgldb.storage.postgres.tables import STAGED_READ, on_postgres, tables
from entgldb.storage.postgres.translate import Rows, Translated, of_any, translate
from entgldb.storage.postgres.values import Array, Cursor, as_stored, given_to, stored, stored_as_bytes

_LOCK: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1 AND state = 'active' FOR UPDATE"
"""So a process that has not heard yet that a tenant is shut cannot write it any more."""
_VERSION: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1"
_UNLOCK: Final = "UPDATE entgldb_tenants SET version = $2 WHERE tenant = $1"
_RANDOM_BITS: Final = 20
"""Of a version: no two that follow the same one are alike, as after a copy was put back."""
_LONG: Final = f"SELECT set_config('statement_timeout', '{MERGE_S}s', true)"
_NO_LOOPS: Final = "SELECT set_config('enable_nestloop', 'off', true)"
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


class _Waiting(NamedTuple):
    """A statement that changes rows and was not sent yet."""

    sql: str
    given: Sequence[Any]
    numbers: bool = False
    counts: bool = True
    """Whether its rows have still to be counted."""
    cursor: Cursor | None = None


class Connection:
    """One tenant's."""

    def __init__(self, server: Server, tenant: str, *, alone: bool = False) -> None:
        """``alone``: nobody else has the server's connections, which end with this one."""
        self.server = server
        self._alone_there = alone
        self.tenant = tenant
        self._changes = 0
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self.seen: int | None = None
        """The version of the tenant's row when this connection last saw it; None: nothing is known of it."""
        self.begun: Callable[[], None] = lambda: None
        """Called in a group that meets a row which is not as this connection saw it last."""
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
        self._staged: sqlite3.Connection | None = None
        self._identity: str | None = None
        """That of the server at the first transaction."""

    @property
    def in_transaction(self) -> bool:
        return self._held is not None

    @property
    def total_changes(self) -> int:
        if any(one.counts for one in self._waiting):
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
        special = _SPECIAL.get(sql.split(" ", 1)[0])
        if special is not None:
            return special(self, sql, parameters)
        if self._ahead and (sql, tuple(parameters)) in self._ahead:
            return self._ahead.pop((sql, tuple(parameters)))
        if self._staged is not None and self._held is None and "staged." in sql:
            return Cursor(self._staged.execute(sql.replace("staged.", "main.")).fetchall())
        known = translate(sql)
        given = [self.tenant, *given_to(known, parameters)]
        if self._held is None:
            if known.changes:
                with self._alone():
                    return self.execute(sql, parameters)
            with refusals():
                return self._read(known, given)
        if self._version is None:
            return Cursor(self._streamed(self._held, known, given))
        if known.returns:
            return self._result(known, self._ask((known.sql, given))[-1])
        cursor = Cursor(settle=self._ask)
        self._later(_Waiting(known.sql, given, known.numbers, cursor=cursor))
        return cursor

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        """As ``execute`` for each of the rows; many go in one statement where that does the same."""
        known = translate(sql)
        if self._held is None:
            with self._alone():
                return self.executemany(sql, rows)
        if known.rows is None:
            for row in rows:
                self._later(_Waiting(known.sql, [self.tenant, *given_to(known, row)]))
            return Cursor()
        every = [*rows]
        for start in range(0, len(every), ARRAY_ROWS):
            self._write_many(known, known.rows, every[start : start + ARRAY_ROWS])
        return Cursor()

    def execute_any(self, sql: str, parameters: Sequence[Any], texts: Sequence[str]) -> Cursor:
        """As ``execute`` of a statement which reads and ends by ``IN (?)``, for any of many texts."""
        known = of_any(sql)
        given = [self.tenant, *parameters, Array.of("TEXT", texts)]
        if self._held is None:
            with refusals():
                return self._read(known, given)
        return self._result(known, self._ask((known.sql, given))[-1])

    @contextmanager
    def ahead(self, *reads: tuple[str, tuple[Any, ...]]) -> Iterator[None]:
        """Within a group or ``look``: these statements, each with its parameters, take one round trip.

        They are carried out now; nothing must be written before they are asked.
        """
        known = [translate(sql) for sql, _ in reads]
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
        arrays = []
        for place, kind in how.columns:
            column = [row[place] for row in rows]
            if place in known.texts:
                column = [*map(stored, column)]
            elif place in known.blobs:
                column = [*map(stored_as_bytes, column)]
            arrays.append(Array.of(kind, column))
        if how.writes_each:
            self._changes += len(rows)
        waiting = _Waiting(how.sql, [self.tenant, *arrays], counts=not how.writes_each)
        self._later(waiting, sum(map(len, arrays)))

    def _later(self, one: _Waiting, size: int = _ROW_BYTES) -> None:
        """Have a statement wait for the next round trip."""
        self._waiting.append(one)
        self._waiting_bytes += size
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._ask()

    def _ask(self, *statements: tuple[str, Sequence[Any]]) -> list[psycopg.Cursor[Any]]:
        """All that waits, then these statements, in one round trip; what each of these gave."""
        held, waiting = self._held, self._waiting
        assert held is not None
        self._waiting, self._waiting_bytes = [], 0
        if not waiting and not statements:
            return []
        with refusals():
            self.server.trips += 1
            if not waiting and len(statements) == 1:
                return [held.execute(*statements[0])]
            with held.pipeline():
                done = [held.execute(one.sql, one.given) for one in waiting]
                asked = [held.execute(*one) for one in statements]
        for one, found in zip(waiting, done, strict=True):
            if one.counts:
                self._changes += found.rowcount
            if one.cursor is not None:
                row = found.fetchone() if one.numbers else None
                one.cursor.tell(found.rowcount, row[0] if row else None)
        return asked

    def _read(self, known: Translated, given: list[Any]) -> Cursor:
        """A transaction of one statement, in one round trip."""
        held = self._lease()
        try:
            self.server.trips += 1
            with held.pipeline():
                held.execute("BEGIN READ ONLY")
                held.execute(SET, [self.tenant])
                found = held.execute(known.sql, given)
                held.execute("COMMIT")
            return self._result(known, found)
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
                    held.execute(SET_TO_WRITE if writes else SET, [self.tenant])
                    found = held.execute(_LOCK, [self.tenant]) if writes else None
                row = None if found is None else found.fetchone()
        except BaseException:
            held.close()
            self.server.give_back(held)
            raise
        self._held = held
        if not writes:
            return Cursor()
        if row is None:
            self._rollback()
            raise EntglError(f"PostgreSQL has no active tenant {self.tenant}", code=ErrorCode.NOT_FOUND)
        self._version, self._changed = row[0], self._changes
        if self.server.went_back(self.tenant, row[0]):
            self._rollback()
            raise ReplacedError(f"tenant {self.tenant} is older on PostgreSQL than it was")
        if self._staged is not None:
            self._take_staged()
        self._read_anew = self.seen != self._version
        if self._read_anew:
            self.seen = self._version
            self.begun()
        return Cursor()

    def _commit(self, _sql: str, _: object) -> Cursor:
        version = self._version
        if version is not None and self._staged is not None:
            self._forget_staged()
        new = 0 if version is None else _next(version)
        # it may be in the database although it fails
        before, self.seen = self.seen, None
        try:
            changed = version is not None and self._has_changed()
            unlock = [(_UNLOCK, [self.tenant, new])] if changed else []
            _check_committed(self._ask(*unlock, ("COMMIT", ()))[-1])
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
        self._waiting, self._waiting_bytes = [], 0
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
        if self._staged is not None:
            # plans made with ``_NO_LOOPS`` would be kept for statements of other groups, and its patience
            held.close()
        self.server.give_back(held)

    def _raw(self, sql: str, _: object) -> Cursor:
        self._ask((sql, ()))
        return Cursor()

    # --- what a file has otherwise ----------------------------------------------------------------

    def _create(self, sql: str, _: object) -> Cursor:
        if sql.startswith("CREATE TEMP TABLE "):
            return self._empty(on_postgres(sql.split(" ")[3], "temp"))
        return self._nothing(sql, ())

    def _nothing(self, sql: str, _: object) -> Cursor:
        if not sql.startswith(_NOTHING):
            raise EntglError(f"a cloud on PostgreSQL has no {sql[:60]!r}", code=ErrorCode.UNSUPPORTED)
        return Cursor()

    def _empty(self, table: str) -> Cursor:
        sql = f"DELETE FROM {table} WHERE tenant = $1"  # noqa: S608 -- of ours
        self._later(_Waiting(sql, [self.tenant], counts=False))
        return Cursor()

    def _attach(self, _sql: str, parameters: Sequence[str]) -> Cursor:
        self._staged = sqlite3.connect(parameters[0], uri=True, isolation_level=None)
        return Cursor()

    def _detach(self, _sql: str = "", _: object = ()) -> Cursor:
        if self._staged is not None:
            self._staged.close()
            self._staged = None
        return Cursor()

    def _take_staged(self) -> None:
        """Bring a staged snapshot into the group that merges it."""
        assert self._staged is not None
        assert self._held is not None
        self._held.longer_s = MERGE_S
        self._later(_Waiting(_LONG, (), counts=False))
        self._forget_staged()
        for name in STAGED_READ:
            table = tables()[on_postgres(name, "staged")]
            columns = ", ".join(table.columns)
            marks = ", ".join("?" * len(table.columns))
            read_all = f"SELECT {columns} FROM {name}"  # noqa: S608 -- of ours
            write = f"INSERT INTO staged.{name} ({columns}) VALUES ({marks})"  # noqa: S608 -- of ours
            with closing(self._staged.execute(read_all)) as rows:
                while page := rows.fetchmany(ARRAY_ROWS):
                    self.executemany(write, page)
        self._join_by_hash()

    def _join_by_hash(self) -> None:
        """They are rows of this very transaction, of which there are no statistics: PostgreSQL's planner
        would join each with all others. ANALYZE would have other tenants wait: it holds a lock of the table.
        CockroachDB has no such setting."""
        assert self._held is not None
        if self._held.info.parameter_status("crdb_version") is None:
            self._later(_Waiting(_NO_LOOPS, (), counts=False))

    def _forget_staged(self) -> None:
        for name in STAGED_READ:
            self._empty(on_postgres(name, "staged"))


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


def _check_committed(found: psycopg.Cursor[Any]) -> None:
    """PostgreSQL answers ROLLBACK to COMMIT, and no error, where a statement had failed before."""
    if found.statusmessage != "COMMIT":
        raise PostgresFault(psycopg.OperationalError("the transaction had failed before"))


def _next(version: int) -> int:
    return ((version >> _RANDOM_BITS) + 1 << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)
