"""W9: a cloud node takes what gateways bring, on SQLite and on PostgreSQL, beside COPY into two tables.

The store of a cloud node runs in this process and takes the entries of another writer, a group for each
batch, as it does for each batch of a gateway: no link is between. The floor writes the same documents by
``COPY`` into a log and a table of documents, with as many keys, a transaction for each batch.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from entgldb.launch.bench.sides import COLLECTION, IN_FLIGHT, document, key
from entgldb.launch.bench.works import Bench, Figure, Result, in_turns
from entgldb.launch.playground.postgres import a_server, from_wheel
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, UnsupportedError
from entgldb.messages.model import Entry
from entgldb.storage.store import Store

if TYPE_CHECKING:
    from entgldb.storage.postgres.server import Server

NOW_MS: Final = 1_790_000_000_000
NODE: Final = "cloud"
DOCUMENTS: Final = 10_000
"""Of one turn, all of them new."""
BATCH: Final = 500
TENANTS: Final = 8
_LOG: Final = "lsn BIGINT, origin BIGINT, header BYTEA, body TEXT, PRIMARY KEY (tenant, lsn)"
_ROWS: Final = "id BIGINT, collection TEXT, key TEXT, body TEXT, PRIMARY KEY (tenant, id)"
FLOOR: Final = {
    "bench_log": f"{_LOG}, UNIQUE (tenant, origin, lsn)",
    "bench_documents": f"{_ROWS}, UNIQUE (tenant, collection, key)",
}


class Load(NamedTuple):
    """Tenants of one turn, and the entries of each batch."""

    tenants: int
    batch: int


LOADS: Final = {
    "sqlite": Load(1, BATCH),
    "bulk": Load(1, BATCH),
    "tenants8": Load(TENANTS, BATCH),
    "inflight64": Load(1, IN_FLIGHT),
}


def clouds(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """Raises UnsupportedError without a PostgreSQL, ConfigError for a role that sees all tenants."""
    need_server(bench.postgres)
    entries = _entries(bench.amount(DOCUMENTS))
    with ExitStack() as stack:
        dsn = bench.postgres or stack.enter_context(a_server()).address
        sides = _Sides(dsn, root, entries, stack, tidies=bool(bench.postgres))
        for figure in figures:
            load = LOADS[figure.name]
            ours = sides.on_sqlite if figure.name == "sqlite" else sides.on_postgres
            turns = bench.turns(figure.full_name)
            # both are called before the next figure is taken up
            yield in_turns(figure, turns, lambda: ours(load), lambda: sides.copied(load))  # noqa: B023 -- as said above


def need_server(dsn: str) -> None:
    """Raises UnsupportedError where there is no PostgreSQL, or nothing that speaks to one."""
    if not all(map(find_spec, ("psycopg", "sqlglot"))):
        raise UnsupportedError("the extra postgres is not installed", hint="pip install 'entgldb[postgres]'")
    if not dsn:
        from_wheel()


class _Sides:
    """Each turn has tenants of its own."""

    def __init__(self, dsn: str, root: Path, entries: list[Entry], stack: ExitStack, *, tidies: bool) -> None:
        """``tidies``: the database goes on, and nothing of ours may stay there."""
        from entgldb.storage.postgres import store
        from entgldb.storage.postgres.server import server

        self._dsn, self._root, self._entries, self._stack = dsn, root, entries, stack
        self._tidies = tidies
        self._open = store.Store.connect
        self._server: Server = server(dsn)
        self._floor = f"bench-{secrets.token_hex(4)}"
        stack.callback(self._server.close)
        self._fresh()
        for table, columns in FLOOR.items():
            self._server.alone(f"CREATE TABLE {table} (tenant TEXT, {columns})")
            stack.callback(self._server.alone, f"DROP TABLE {table}")

    def on_sqlite(self, load: Load) -> float:
        """Documents a second, each tenant in a file."""
        stores = [Store.open(tempfile.mkdtemp(dir=self._root), NODE, NOW_MS) for _ in range(load.tenants)]
        try:
            return self._timed(load, [_taking(store) for store in stores])
        finally:
            for store in stores:
                store.close()

    def on_postgres(self, load: Load) -> float:
        """Documents a second, all tenants in one database."""
        return self._timed(load, [_taking(self._fresh()) for _ in range(load.tenants)])

    def copied(self, load: Load) -> float:
        """Documents a second by ``COPY``, on one connection."""
        names = [f"{self._floor}-{secrets.token_hex(8)}" for _ in range(load.tenants)]
        connection = self._server.lease()
        try:
            return self._timed(load, [_Copying(connection, name) for name in names])
        finally:
            self._server.give_back(connection)

    def _timed(self, load: Load, takers: Sequence[Callable[[list[Entry]], object]]) -> float:
        share = max(1, len(self._entries) // load.tenants)
        begun = time.perf_counter()
        for start in range(0, share, load.batch):
            part = self._entries[start : min(start + load.batch, share)]
            for take in takers:
                take(part)
        return share * load.tenants / (time.perf_counter() - begun)

    def _fresh(self) -> Store:
        tenant = f"bench-{secrets.token_hex(8)}"
        made = self._open(self._dsn, tenant, NODE, NOW_MS)
        if self._tidies:
            self._stack.callback(self._remove, tenant)
        return made

    def _remove(self, tenant: str) -> None:
        from entgldb.storage.postgres.tenants import TenantRows
        from entgldb.storage.tenants.files import TenantFiles

        rows = TenantRows(self._dsn, TenantFiles(self._root))
        while not rows.remove(tenant):
            pass
        self._server.carry_out(tenant, "DELETE FROM entgldb_tenants WHERE tenant = $1")


def _taking(store: Store) -> Callable[[list[Entry]], object]:
    def take(entries: list[Entry]) -> None:
        with store.group():
            refused = store.apply(entries, NOW_MS, cloud=True).refused
        if refused:
            raise EntglError(f"the cloud refused what was brought: {refused}")

    return take


class _Copying:
    """Writes documents of one tenant, each batch in a transaction."""

    def __init__(self, connection: Any, tenant: str) -> None:
        self._connection, self._tenant, self._written = connection, tenant, 0

    def __call__(self, entries: list[Entry]) -> None:
        bodies = [*enumerate(((entry, (entry.body or b"").decode()) for entry in entries), self._written)]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy("COPY bench_log FROM STDIN") as log:
                for number, (entry, body) in bodies:
                    log.write_row((self._tenant, number, 1, entry.header, body))
            with cursor.copy("COPY bench_documents FROM STDIN") as rows:
                for number, (_, body) in bodies:
                    rows.write_row((self._tenant, number, COLLECTION, key(number), body))
        self._written += len(entries)


def _entries(documents: int) -> list[Entry]:
    """Those of a gateway that has written so many."""
    giver = Store.memory("gateway", b"bench", NOW_MS)
    for start in range(0, documents, BATCH):
        numbers = range(start, min(start + BATCH, documents))
        writes = [Write(COLLECTION, key(number), json.dumps(document(number)).encode()) for number in numbers]
        with giver.group():
            giver.write(RequestId(b"bench".ljust(16), start + 1), writes, NOW_MS)
    found = giver.entries([(giver.origin, seq) for seq in range(1, documents + 1)])
    giver.connection.close()
    return found
