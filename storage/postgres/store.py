"""The store, and the reader of the log, of one tenant on PostgreSQL."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final, Self, cast

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.model import check_node_id, node_of
from entgldb.storage import store
from entgldb.storage.audit.trail import Trail
from entgldb.storage.authorship.authors import Attest, no_attestation
from entgldb.storage.authorship.identity import Identity
from entgldb.storage.file.faults import closed_on_fault, translating
from entgldb.storage.file.state import READS, State
from entgldb.storage.log import read, requests
from entgldb.storage.postgres import identity, schema
from entgldb.storage.postgres.connection import Connection, ReplacedError
from entgldb.storage.postgres.merging.sides import Sides
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.rules.incarnations import Why

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TENANT: Final = "INSERT INTO entgldb_tenants (tenant, version) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_STANDS: Final = "SELECT (SELECT value FROM _entgldb_meta WHERE name = 'postgres') FROM _entgldb_state"
_UNNOTED: Final = "UPDATE entgldb_tenants SET noted = 0 WHERE tenant = $1"
_VERSION: Final = "SELECT version FROM entgldb_tenants WHERE tenant = $1"


def as_sqlite(connection: Connection) -> sqlite3.Connection:
    """The connection by the type that the code of ``storage`` names: of that it uses what is here."""
    return cast("sqlite3.Connection", connection)


class Store(store.Store):
    """The writer of one tenant. Several processes may have one each of the same tenant."""

    on: Connection

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, attest: Attest = no_attestation
    ) -> None:
        super().__init__(connection, path, attest)
        self.trail = Trail(connection, node_of(self.origin), stands=True)

    @classmethod
    def connect(cls, dsn: str, tenant: str, node_id: str, now_ms: int) -> Self:
        """Open the tenant, made where it is not there yet. Raises ConfigError or EntglError."""
        check_node_id(node_id)
        on = server(dsn)
        with translating("PostgreSQL"):
            connection = Connection(on, tenant)
            ensure(connection)
            with closed_on_fault(as_sqlite(connection)):
                Identity.ensure(as_sqlite(connection), node_id)
                connection.execute("BEGIN")
                with connection.ahead(*_reads(-1, 0)):
                    made = cls(as_sqlite(connection), None)
                connection.execute("COMMIT")
                connection.begun = made._take_up
                noted = identity.noted(connection)
                is_new = on.identity not in ("", noted)
                if noted == identity.RESTORED:
                    made.begin_anew(b"", Why.RESTORED, now_ms)
                elif tenant in on.put_back or (noted and is_new):
                    made.begin_anew(b"", Why.ROLLED_BACK, now_ms)
                on.put_back.discard(tenant)
                made.incarnations.attest()
                if is_new or noted == identity.RESTORED:
                    identity.note(connection, on.identity)
                made.serve()
        return made

    def serve(self) -> None:
        """From now on the memory follows what other processes write."""
        self.on = cast(Connection, self.connection)
        self.on.begun, self.on.shadow = self._read_anew, lambda: Sides(self.on)

    def size(self) -> tuple[int, int]:
        """As of the last group, or of the last look at what others have written."""
        return self.state.documents, self.state.entries

    def compact_step(self) -> tuple[int, int, bool]:
        """Refused: PostgreSQL does it by itself."""
        raise EntglError(
            "a cloud on PostgreSQL is compacted by PostgreSQL",
            code=ErrorCode.UNSUPPORTED,
            hint="VACUUM there",
        )

    def follow(self, version: int) -> None:
        """Take up what another process has written, where this one is not at ``version`` of the tenant's row.

        It waits for no lock. Raises PostgresFault, ReplacedError.
        """
        if version == self.on.seen:
            return
        self.on.execute("BEGIN")
        try:
            self.on.look()
            self.on.execute("COMMIT")
        finally:
            if self.on.in_transaction:
                self.on.execute("ROLLBACK")

    def _read_anew(self) -> None:
        """Another process has written since: the memory follows, unless it is void. Raises ReplacedError."""
        self._take_up(self._check_stands)

    def _check_stands(self) -> None:
        tenant, row = self.on.tenant, self.connection.execute(_STANDS).fetchone()
        if row is None:
            raise ReplacedError(f"tenant {tenant} was deleted")
        if row[0] == identity.RESTORED:
            raise ReplacedError(f"the database of tenant {tenant} was restored")
        if schema.is_newer(self.on.version):
            raise ReplacedError("the tables on PostgreSQL are those of a newer release by now")

    def _take_up(self, check: Callable[[], None] = lambda: None) -> None:
        known = self.state.saved.saves, self.state.lsn
        with cast(Connection, self.connection).ahead((_STANDS, ()), *_reads(*known)):
            check()
            self._become(State.load(self.connection), known)

    def _become(self, found: State, known: tuple[int, int]) -> None:
        """``known``: how often the state had been saved, and the last row, until now."""
        state = self.state
        if found.own != state.own:
            # as of a tenant that was deleted and made again
            known = (-1, 0)
        elif found.saved.saves == state.saved.saves:
            found.answers, found.settled, found.latest = state.answers, state.settled, state.latest
        found.disowned = state.disowned and found.own == state.own
        found.uncut = state.uncut
        for one in fields(State):
            if one.name != "journal":
                setattr(state, one.name, getattr(found, one.name))
        state.__post_init__()
        requests.recall_answers(self.connection, state, known)
        self._undone()


class LogReader(read.LogQueries):
    """Reads the log of one tenant."""

    @classmethod
    def connect(cls, dsn: str, tenant: str) -> Self:
        """The tenant has been made. Connects with its first read."""
        return cls(as_sqlite(Connection(server(dsn), tenant)))


def source(dsn: str, tenant: str) -> sqlite3.Connection:
    """A connection of its own, for another thread: one long read of a tenant."""
    return as_sqlite(Connection(Server(dsn), tenant, alone=True))


def _reads(saves: int, lsn: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All that is read to have the memory of a tenant; see ``requests.RECALL``."""
    yield from ((sql, ()) for sql in READS)
    yield requests.RECALL, (saves, lsn)


def ensure(connection: Connection) -> None:
    """Make the tables, and the rows that every tenant has. Raises ConfigError, PostgresFault."""
    on, tenant = connection.server, connection.tenant
    schema.prepare(on)
    on.carry_out(tenant, _TENANT, [schema.first_version()])
    ((version,),) = on.alone(_VERSION, [tenant])
    if on.went_back(tenant, version):
        on.put_back.add(tenant)
        on.newest[tenant] = version
    if connection.execute("SELECT 1 FROM _entgldb_state").fetchone() is None:
        # a merge of an earlier tenant of that name may have left its mark there
        on.carry_out(tenant, _UNNOTED)
        connection.execute(
            "INSERT OR IGNORE INTO _entgldb_state (id, clock, lsn, documents, entries, conflicts)"
            " VALUES (1, 0, 0, 0, 0, 0)"
        )
