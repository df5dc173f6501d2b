"""The part of ``sqlite3.Connection`` that the code of ``storage`` uses, for one tenant on PostgreSQL.

A group begins by locking the tenant's row: rows are read and numbered behind it alone, so the order of
commits is the order of numbers, without gaps. The row is written last. A read outside of a group is one
transaction, and one round trip.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg

from entgldb.messages.errors import EntglError, ErrorCode, UnavailableError
from entgldb.storage.file.faults import DatabaseFault
from entgldb.storage.postgres.server import SET, SET_TO_WRITE, Line, PostgresFault, Server, refusals
from entgldb.storage.postgres.tables import STAGED_READ, on_postgres, tables
from entgldb.storage.postgres.translate import Rows, Translated, translate

_LOCK: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1 AND state = 'active' FOR UPDATE"
"""So a process that has not heard yet that a tenant is shut cannot write it any more."""
_VERSION: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1"
_UNLOCK: Final = "UPDATE entgldb_tenants SET version = $2 WHERE tenant = $1"
_RANDOM_BITS: Final = 20
"""Of a version: no two that follow the same one are alike, as after a copy was put back."""
_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
PAGE_ROWS: Final = 1_000
"""Rows of a long read that are here at one time."""
ARRAY_ROWS: Final = 1_000
"""Rows that are written by one statement."""
_NOTHING: Final = ("CREATE VIEW ", "DROP VIEW ", "DROP TABLE IF EXISTS temp.", "PRAGMA shrink_memory")
"""A file has views, for people who look into it, and pages in memory; ``CREATE TEMP TABLE`` empties a table
here."""


class ReplacedError(UnavailableError, DatabaseFault):
    """PostgreSQL was restored or failed over: a tenant has to be opened anew, as all memory of it is void."""


class Cursor:
    """The rows of one statement, all of them here."""

    def __init__(
        self, rows: Iterable[tuple[Any, ...]] = (), rowcount: int = -1, lastrowid: int | None = None
    ) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount
        self.lastrowid = lastrowid

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def close(self) -> None:
        self._rows = iter(())


class Connection:
    """One tenant's."""

    def __init__(self, server: Server, tenant: str, *, alone: bool = False) -> None:
        """``alone``: nobody else has the server's connections, which end with this one."""
        self.server = server
        self._alone_there = alone
        self.tenant = tenant
        self.total_changes = 0
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
        self._staged: sqlite3.Connection | None = None
        self._identity: str | None = None
        """That of the server at the first transaction."""

    @property
    def in_transaction(self) -> bool:
        return self._held is not None

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
        if self._staged is not None and self._held is None and "staged." in sql:
            return Cursor(self._staged.execute(sql.replace("staged.", "main.")).fetchall())
        known = translate(sql)
        given = [self.tenant, *_given(known, parameters)]
        if self._held is None:
            if known.changes:
                with self._alone():
                    return self.execute(sql, parameters)
            with refusals():
                return self._read(known, given)
        if self._version is None:
            return Cursor(self._streamed(self._held, known, given))
        with refusals():
            self.server.trips += 1
            found = self._held.execute(known.sql, given)
        return self._result(known, found)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        """As ``execute`` for each of the rows; many go in one statement where that does the same."""
        known = translate(sql)
        if self._held is None:
            with self._alone():
                return self.executemany(sql, rows)
        waiting = [_given(known, row) for row in rows]
        if not waiting:
            return Cursor()
        if known.rows is None:
            with refusals(), self._held.cursor() as cursor:
                self.server.trips += 1
                cursor.executemany(known.sql, [[self.tenant, *row] for row in waiting])
                self.total_changes += cursor.rowcount
        else:
            for start in range(0, len(waiting), ARRAY_ROWS):
                self._write_many(known.rows, waiting[start : start + ARRAY_ROWS])
        return Cursor()

    def execute_each(self, sql: str, parameters: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
        """The rows that a statement which reads gives for each, in order: one round trip."""
        if self._held is None:
            yield from (row for one in parameters for row in self.execute(sql, one))
            return
        known = translate(sql)
        with refusals():
            self.server.trips += 1
            with self._held.pipeline():
                found = [
                    self._held.execute(known.sql, [self.tenant, *_given(known, one)]) for one in parameters
                ]
            for one in found:
                yield from self._result(known, one)

    def look(self) -> None:
        """Within a read: call ``begun`` where the row is not as this connection saw it last."""
        assert self._held is not None
        with refusals():
            self.server.trips += 1
            row = self._held.execute(_VERSION, [self.tenant]).fetchone()
        if row is None or row[0] != self.seen:
            self.seen = None
            # from here on rows come as within a group: all of a statement at once
            self._version, self._read_anew = 0, False
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

    def _write_many(self, how: Rows, rows: list[Sequence[Any]]) -> None:
        if how.key:
            # the last of several rows of one key is what would stand
            rows = list({tuple(row[one] for one in how.key): row for row in rows}.values())
        assert self._held is not None
        arrays = [_of_one_type([row[column] for row in rows]) for column in how.columns]
        with refusals():
            self.server.trips += 1
            self.total_changes += self._held.execute(how.sql, [self.tenant, *arrays]).rowcount

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
                yield _as_stored(row, known) if known.as_bytes or known.marked else row

    def _result(self, known: Translated, found: psycopg.Cursor[Any]) -> Cursor:
        rows = found.fetchall() if found.description else []
        if known.changes:
            self.total_changes += found.rowcount
            if known.numbers:
                return Cursor((), found.rowcount, rows[0][0] if rows else None)
        if known.as_bytes or known.marked:
            rows = [_as_stored(row, known) for row in rows]
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
        self._version, self._changed = row[0], self.total_changes
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
        held, version = self._held, self._version
        assert held is not None
        if version is not None and self._staged is not None:
            self._forget_staged()
        changed = version is not None and self.total_changes != self._changed
        new = 0 if version is None else _next(version)
        try:
            with refusals():
                self.server.trips += 1
                with held.pipeline():
                    if changed:
                        held.execute(_UNLOCK, [self.tenant, new])
                    held.execute("COMMIT")
        except BaseException:
            # the transaction may be in the database all the same
            self.seen = None
            held.close()
            raise
        finally:
            self._let_go()
        if changed:
            self.seen = self.server.newest[self.tenant] = new
        return Cursor()

    def _rollback(self, sql: str = "ROLLBACK", _: object = ()) -> Cursor:
        held = self._held
        assert held is not None
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
        self.server.give_back(held)

    def _raw(self, sql: str, _: object) -> Cursor:
        assert self._held is not None
        with refusals():
            self.server.trips += 1
            self._held.execute(sql)
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
        assert self._held is not None
        with refusals():
            self.server.trips += 1
            self._held.execute(f"DELETE FROM {table} WHERE tenant = $1", [self.tenant])  # noqa: S608 -- of ours
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


def _next(version: int) -> int:
    return ((version >> _RANDOM_BITS) + 1 << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)


def _of_one_type(column: list[Any]) -> list[Any]:
    """The values of a column, of which truths are numbers."""
    return [int(one) if isinstance(one, bool) else one for one in column] if True in column else column


def _given(known: Translated, parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
    """The parameters in order, those that go into text as text can be."""
    if known.names is not None:
        assert isinstance(parameters, Mapping)
        return [parameters[name] for name in known.names]
    assert isinstance(parameters, Sequence)
    if not known.texts and not known.blobs:
        return parameters
    given = list(parameters)
    for place in known.texts:
        given[place] = stored(given[place])
    for place in known.blobs:
        given[place] = stored_as_bytes(given[place])
    return given


def stored(value: Any) -> Any:
    """A value as a column of text holds it: bytes, and text with NUL, as hexadecimal digits."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, str) and ("\x00" in value or value.startswith("\\")):
        return "\\t" + value.encode().hex()
    return value


def stored_as_bytes(value: Any) -> Any:
    """A value as a column of bytes holds it: ``read`` tells it from a text that was copied there."""
    return f"\\x{value.hex()}".encode() if isinstance(value, bytes) and value.startswith(b"\\") else value


def read(value: Any) -> Any:
    """The value that ``stored`` or ``stored_as_bytes`` had got."""
    if isinstance(value, bytes):
        return bytes.fromhex(value[2:].decode()) if value.startswith(b"\\") else value
    if isinstance(value, str) and value.startswith("\\"):
        found = bytes.fromhex(value[2:])
        return found if value[1] == "x" else found.decode()
    return value


def _as_stored(row: tuple[Any, ...], known: Translated) -> tuple[Any, ...]:
    made = list(row)
    for place in known.marked:
        made[place] = read(made[place])
    for place in known.as_bytes:
        value = read(made[place])
        made[place] = value.encode() if isinstance(value, str) else value
    return tuple(made)
