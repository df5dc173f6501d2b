"""A PostgreSQL server and this process's connections to it, shared by all tenants.

A process works for one tenant at a time, so one connection nearly always does; there is no thread that
keeps others ready. Each transaction names its tenant by ``SET LOCAL``: a pooler in transaction mode fits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode
from entgldb.storage.file.faults import DatabaseFault

CONNECTIONS_MAX: Final = 8
"""Connections of one process: transactions that are open at one time, and one more."""
IDLE_MAX: Final = 2
"""Of them those that stay open while nobody uses them."""
CONNECT_S: Final = 5
PREPARED_MAX: Final = 400
"""Statements that a connection keeps prepared: there are fewer."""
SETTING: Final = "entgldb.tenant"
"""Row-level security compares each row's tenant with it: see ``schema.py``."""
SET: Final = f"SELECT set_config('{SETTING}', $1, true)"
_FULL: Final = "53100"
_READ_ONLY: Final = "25006"
_WAITS: Final = ("40001", "40P01", "55P03")
"""Somebody else was first: a lock, or a transaction that CockroachDB wants anew."""
_IDENTITY: Final = (
    "SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    " FROM pg_control_system()"
)
"""Which PostgreSQL it is: see ``identity.py``."""


class PostgresFault(DatabaseFault):
    """A refusal of PostgreSQL, as the code of ``storage`` knows those of SQLite."""

    def __init__(self, fault: psycopg.Error) -> None:
        super().__init__(f"PostgreSQL: {str(fault).strip() or type(fault).__name__}")
        state = fault.sqlstate or ""
        if state == _FULL:
            self.code, self.hint = ErrorCode.DISK_FULL, "make room on the disk of PostgreSQL"
        elif state in _WAITS:
            self.code, self.hint = ErrorCode.IN_USE, "try again"
        elif state == _READ_ONLY or not state or state[:2] in ("08", "53", "57"):
            self.code, self.hint = ErrorCode.DISK_ERROR, "look at PostgreSQL"


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what PostgreSQL refuses as PostgresFault."""
    try:
        yield
    except psycopg.Error as fault:
        raise PostgresFault(fault) from fault


class Server:
    """Connections to one database. ``trips`` counts how often an answer was waited for."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.trips = 0
        self._idle: list[psycopg.Connection[Any]] = []
        self._used = 0
        self._process = os.getpid()
        self.identity = ""
        """Of the one that the last connection met; empty where it is hidden, as some services do."""

    def lease(self) -> psycopg.Connection[Any]:
        """A connection, for one transaction. Raises PostgresFault."""
        if self._process != os.getpid():
            # those are of the process that this one was forked from
            self._process, self._used, self._idle = os.getpid(), 0, []
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                self._used += 1
                return connection
        if self._used >= CONNECTIONS_MAX:
            raise EntglError(f"{self._used} transactions of this process are open on PostgreSQL")
        with refusals():
            connection = psycopg.connect(
                self.dsn, autocommit=True, cursor_factory=psycopg.RawCursor, connect_timeout=CONNECT_S
            )
        # one type for every number: a statement is prepared once, and a truth is 0 or 1
        for dumper in (Int8BinaryDumper, Int8Dumper):
            connection.adapters.register_dumper(int, dumper)
        connection.adapters.register_dumper(bool, _TruthDumper)
        # as they are, instead of as text in which bytes are escaped: half the time
        connection.adapters.register_dumper(list, ListBinaryDumper)
        connection.prepared_max = PREPARED_MAX
        self.identity = _identity_of(connection) or self.identity
        self._used += 1
        return connection

    def give_back(self, connection: psycopg.Connection[Any]) -> None:
        """Its transaction has ended."""
        self._used -= 1
        idle = connection.info.transaction_status == pq.TransactionStatus.IDLE
        if connection.closed or not idle or len(self._idle) >= IDLE_MAX:
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
        held = self.lease()
        try:
            with refusals(), held.transaction():
                self.trips += 1
                held.execute(SET, [tenant])
                return held.execute(sql, [tenant, *parameters]).rowcount
        finally:
            self.give_back(held)

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
