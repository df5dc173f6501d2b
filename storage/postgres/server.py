"""A PostgreSQL server and this process's connections to it, shared by all tenants.

A process works for one tenant at a time, so one connection nearly always does; there is no thread that
keeps others ready. Each transaction names its tenant by ``SET LOCAL``: a pooler in transaction mode fits.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, UnavailableError
from entgldb.storage.file.faults import DatabaseFault
from entgldb.storage.postgres.values import Array, ArrayDumper

CONNECTIONS_MAX: Final = 8
"""Connections of one process: transactions that are open at one time, and one more."""
IDLE_MAX: Final = 2
"""Of them those that stay open while nobody uses them."""
CONNECT_S: Final = 5
"""Seconds that it may take to connect to one address of the server."""
STATEMENT_S: Final = 20
"""Seconds that PostgreSQL may work at one statement."""
MERGE_S: Final = 600
"""The same for one that merges a snapshot at once, where it cannot be merged in steps."""
LOCK_S: Final = 5
"""Seconds that it may wait for a lock, such as the row of a tenant that another process writes."""
HELD_S: Final = 60
"""Seconds after which PostgreSQL ends a group whose process says nothing more: it holds the tenant's row.

PostgreSQL 18 counts them from the second round trip of a group on: the first one is a pipeline."""
ANSWER_S: Final = 30.0
"""Seconds that any answer may take: beyond them the server, or the way to it, counts as gone."""
PREPARED_MAX: Final = 400
"""Statements that a connection keeps prepared: there are fewer."""
SETTING: Final = "entgldb.tenant"
"""Row-level security compares each row's tenant with it: see ``schema.py``."""
SET: Final = (
    f"SELECT set_config('{SETTING}', $1, true), set_config('statement_timeout', '{STATEMENT_S}s', true)"
)
"""At the beginning of each transaction, of which alone it is: poolers keep nothing of it."""
SET_TO_READ: Final = f"{SET}, (SELECT side FROM entgldb_tenants WHERE tenant = $1)"  # noqa: S608 -- constants
"""The last: the tables of documents that the tenant shows."""
SET_TO_WRITE: Final = (
    f"{SET}, set_config('lock_timeout', '{LOCK_S}s', true),"
    f" set_config('idle_in_transaction_session_timeout', '{HELD_S}s', true)"
)
_FULL: Final = "53100"
_CANCELLED: Final = "57014"
_WAITS: Final = ("40001", "40P01", "55P03")
"""Somebody else was first: a lock, or a transaction that CockroachDB wants anew."""
_UNKNOWN: Final = "40003"
_LOST: Final = ("08", "53", "57", "58")
"""Classes of what happens to a server, and not because of a statement."""
_STATES: Final = ("25006", "25P03", "25P04", "XX001", "XX002")
"""It takes no writes, the transaction took too long, its files are damaged."""
_TO_WRITE: Final[dict[str, Any]] = {"target_session_attrs": "read-write"}
"""A standby is no place to begin on: promoted later, it would have taken the place of the other unseen."""
_IDENTITY: Final = (
    "SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    " FROM pg_control_system()"
)
"""Which PostgreSQL it is: see ``identity.py``."""


class PostgresFault(DatabaseFault):
    """A refusal of PostgreSQL, as the code of ``storage`` knows those of SQLite."""

    def __init__(self, fault: psycopg.Error, code: ErrorCode = ErrorCode.INTERNAL, hint: str = "") -> None:
        super().__init__(f"PostgreSQL: {str(fault).strip() or type(fault).__name__}")
        self.code, self.hint = code, hint
        self.late = fault.sqlstate == _CANCELLED
        """Whether it took longer than a statement may."""
        self.undone = fault.diag.severity_nonlocalized == "ERROR" and fault.sqlstate != _UNKNOWN


class GoneError(UnavailableError, PostgresFault):
    """PostgreSQL cannot be had, or takes nothing."""


def _told(fault: psycopg.Error) -> PostgresFault:
    state = fault.sqlstate or ""
    if state == _FULL:
        return GoneError(fault, ErrorCode.DISK_FULL, "make room on the disk of PostgreSQL")
    if state in _WAITS:
        return PostgresFault(fault, ErrorCode.IN_USE, "try again")
    if not state or state in _STATES or state[:2] in _LOST:
        return GoneError(fault, ErrorCode.DISK_ERROR, "look at PostgreSQL")
    return PostgresFault(fault)


CAN_START: Final = all(hasattr(psycopg.Pipeline, name) for name in ("_enqueue_sync", "_communicate_gen"))
"""Whether this psycopg has what ``Line.start`` needs of it, and no release promises."""


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what PostgreSQL refuses as PostgresFault."""
    try:
        yield
    except psycopg.Error as fault:
        raise _told(fault) from fault


def check_committed(found: psycopg.Cursor[Any]) -> None:
    """PostgreSQL answers ROLLBACK to COMMIT, and no error, where a statement had failed before."""
    if found.statusmessage != "COMMIT":
        raise PostgresFault(psycopg.OperationalError("the transaction had failed before"))


def side_of(found: psycopg.Cursor[Any]) -> int | None:
    """The side that the tenant shows, by ``SET_TO_READ``; None where there is no such tenant."""
    row = found.fetchone()
    side: int | None = None if row is None else row[-1]
    return side


class Line(psycopg.Connection[Any]):
    """A connection on which no answer is waited for without end."""

    waits: Callable[[], None] = staticmethod(lambda: None)
    longer_s = 0
    """Seconds that an answer may take beyond ANSWER_S."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun = ExitStack()
        self._started: psycopg.Pipeline | None = None
        """That in which statements were started, which ``_begun`` closes."""

    def wait(self, gen: PQGen[Any], *args: Any, **kwargs: Any) -> Any:
        """Raises psycopg.OperationalError after that time; the connection is then of no use."""
        self.waits()
        return super().wait(self._in_time(gen), *args, **kwargs)

    def _in_time(self, gen: PQGen[Any]) -> PQGen[Any]:
        limit = ANSWER_S + self.longer_s
        until = time.monotonic() + limit
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {limit:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Several statements in one round trip; after one that fails nothing is prepared here any more.

        psycopg goes on to call a statement prepared that was to be prepared behind the one that failed.
        """
        try:
            with super().pipeline() as pipeline:
                yield pipeline
        except psycopg.Error:
            self.prepare_threshold = None
            raise

    def start(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> list[psycopg.Cursor[Any]]:
        """Have PostgreSQL begin with statements: ``together`` waits for the answers.

        Behind a Sync it ends the group of a process that stops here as behind any answer, after HELD_S.
        """
        pipeline = self._started = self._started or self._begun.enter_context(self.pipeline())
        try:
            sent = [self.execute(*one) for one in statements]
            # ``pipeline.sync`` would wait for all answers
            pipeline._enqueue_sync()
            self.wait(pipeline._communicate_gen())
        except psycopg.Error:
            self.prepare_threshold = None
            raise
        return sent

    @contextmanager
    def together(self) -> Iterator[None]:
        """As ``pipeline``, with what was started before in the same round trip."""
        with self._begun:
            if self._started is None:
                self._begun.enter_context(self.pipeline())
            self._started = None
            yield

    def let_be(self) -> None:
        """Wait for what was started, whatever becomes of it."""
        self._started = None
        with suppress(psycopg.Error):
            self._begun.close()

    def is_there(self) -> bool:
        """Whether the server has not ended it, as far as can be told without asking."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return not poll.poll(0)


class Server:
    """Connections to one database. ``trips`` counts how often an answer was waited for."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.waits: Callable[[], None] = lambda: None
        """Called before an answer is waited for."""
        self.trips = 0
        self._idle: list[Line] = []
        self._used = 0
        self._process = os.getpid()
        self.newest: dict[str, int] = {}
        """Tenant -> the greatest version of its row that this process has seen."""
        self.put_back: set[str] = set()
        """Tenants whose row was older: they are to go on as new writers."""
        self.whole = False
        """Whether its tables were seen to have all parts."""
        self.notes = False
        """Whether they have triggers, which a merge in steps needs."""
        self.name = secrets.token_hex(8)
        """Of this process, to others."""
        self.identity = ""
        """Of the one that the last connection met; empty where it is hidden, as some services do."""

    def lease(self) -> Line:
        """A connection, for one transaction. Raises PostgresFault."""
        if self._process != os.getpid():
            # those are of the process that this one was forked from
            self._process, self._used, self._idle = os.getpid(), 0, []
        while self._idle:
            connection = self._idle.pop()
            if connection.is_there():
                self._used += 1
                return connection
            connection.close()
        if self._used >= CONNECTIONS_MAX:
            raise EntglError(f"{self._used} transactions of this process are open on PostgreSQL")
        with refusals():
            connection = Line.connect(
                self.dsn,
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                connect_timeout=CONNECT_S,
                **_TO_WRITE,
            )
            connection.waits = self.waits
        # one type for every number: a statement is prepared once, and a truth is 0 or 1
        for dumper in (Int8BinaryDumper, Int8Dumper):
            connection.adapters.register_dumper(int, dumper)
        connection.adapters.register_dumper(bool, _TruthDumper)
        connection.adapters.register_dumper(Array, ArrayDumper)
        connection.prepared_max = PREPARED_MAX
        self.identity = _identity_of(connection) or self.identity
        self._used += 1
        return connection

    def give_back(self, connection: Line) -> None:
        """Its transaction has ended."""
        self._used -= 1
        idle = connection.info.transaction_status == pq.TransactionStatus.IDLE
        failed = connection.prepare_threshold is None
        if connection.closed or not idle or failed or len(self._idle) >= IDLE_MAX:
            connection.close()
        else:
            self._idle.append(connection)

    def alone(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """One statement that is of no tenant. Raises PostgresFault."""
        connection = self.lease()
        try:
            with refusals():
                self.trips += 1
                cursor = connection.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            self.give_back(connection)

    def carry_out(self, tenant: str, sql: str, parameters: Sequence[object] = ()) -> int:
        """One statement about a tenant's rows that no translation makes; how many it changed.

        ``$1`` is the tenant. Raises PostgresFault.
        """
        with self.changing(tenant) as held:
            return held.execute(sql, [tenant, *parameters]).rowcount

    @contextmanager
    def changing(self, tenant: str) -> Iterator[Line]:
        """A transaction about a tenant's rows, or with "" about the tables. Raises PostgresFault."""
        held = self.lease()
        try:
            with refusals(), held.transaction():
                self.trips += 1
                held.execute(SET_TO_WRITE, [tenant])
                yield held
        finally:
            self.give_back(held)

    def went_back(self, tenant: str, version: int) -> bool:
        """Whether the row of a tenant is older than one that was seen: a copy was put back."""
        newest = self.newest.get(tenant, version)
        self.newest[tenant] = max(newest, version)
        return version < newest

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()


def _identity_of(connection: psycopg.Connection[Any]) -> str:
    """Empty where it is hidden, as some services do, or unknown, as in CockroachDB."""
    try:
        row = connection.execute(_IDENTITY).fetchone()
    except psycopg.Error:
        return ""
    return "" if row is None else str(row[0])


class _TruthDumper(Int8Dumper):
    def dump(self, obj: Any) -> bytes:
        return b"1" if obj else b"0"


@cache
def server(dsn: str) -> Server:
    """The connections of this process to a database. Raises ConfigError."""
    try:
        psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as fault:
        raise ConfigError(f"cloud.storage is no address of PostgreSQL: {fault}") from None
    return Server(dsn)
