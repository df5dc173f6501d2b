"""PostgreSQL on a bad day: slow, silent, locked, full, read-only, with no connection left.

Each costs the group that met it, says which error it is, and leaves other tenants as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.postgres import connection as connections
from entgldb.storage.postgres import server as module
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import SET_TO_WRITE, GoneError, Server
from entgldb.storage.postgres.store import Store, as_sqlite
from tests.support import postgres
from tests.unit.storage.postgres import proxy

NOW = 1_790_000_000_000
QUICK = "'200ms'"
"""In place of one of the time limits."""


def put(store: Store, counter: int) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, counter), [Write("users", f"k{counter}", b"{}")], NOW)


def refused(store: Store, counter: int, code: ErrorCode) -> None:
    """Nothing is written, and the error says why."""
    with pytest.raises(EntglError) as told:
        put(store, counter)
    assert told.value.code == code
    assert told.value.definite


def shorten(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    begins = f"set_config('{setting}', "
    before = SET_TO_WRITE.split(begins)[1].split(",")[0]
    monkeypatch.setattr(connections, "SET_TO_WRITE", SET_TO_WRITE.replace(before, QUICK))


@pytest.fixture
def second() -> Iterator[Server]:
    """The connections of another process."""
    made = Server(postgres.address())
    yield made
    made.close()


@pytest.fixture
def stores() -> Iterator[tuple[Store, Store]]:
    """Two tenants."""
    ours, theirs = postgres.open_store("a", NOW), postgres.open_store("b", NOW)
    put(ours, 1)
    yield ours, theirs
    put(ours, 90)
    put(theirs, 90)
    assert [row.lsn for row in ours.rows(1, 99)] == [1, 2]


@contextmanager
def a_trigger(tenant: str, body: str) -> Iterator[None]:
    """Something happens to each row of the log of one tenant."""
    with psycopg.connect(postgres.address(), autocommit=True) as other:
        other.execute(
            f"CREATE FUNCTION bad_day() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NEW; END'"  # type: ignore[arg-type]  # no literal
        )
        other.execute(
            "CREATE TRIGGER bad_day BEFORE INSERT ON entgldb_oplog FOR EACH ROW"
            f" WHEN (NEW.tenant = '{tenant}') EXECUTE FUNCTION bad_day()"  # type: ignore[arg-type]  # as above
        )
        try:
            yield
        finally:
            other.execute("DROP FUNCTION bad_day CASCADE")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("53100", ErrorCode.DISK_FULL),
        ("53200", ErrorCode.DISK_ERROR),
        ("58030", ErrorCode.DISK_ERROR),
        ("XX001", ErrorCode.DISK_ERROR),
    ],
)
def test_a_disk_that_is_full_or_broken_costs_the_group(
    stores: tuple[Store, Store], state: str, code: ErrorCode
) -> None:
    ours, theirs = stores
    with a_trigger(ours.on.tenant, f"RAISE EXCEPTION USING ERRCODE = ''{state}''"):
        refused(ours, 2, code)
        put(theirs, 1)
        assert ours.get("users", "k1") == b"{}"


def test_a_statement_that_takes_too_long_is_broken_off(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = stores
    shorten(monkeypatch, "statement_timeout")
    with a_trigger(ours.on.tenant, "PERFORM pg_sleep(60)"):
        refused(ours, 2, ErrorCode.DISK_ERROR)
        put(theirs, 1)


def test_a_tenant_that_another_process_writes_is_not_waited_for_without_end(
    stores: tuple[Store, Store], second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = stores
    other = Store(as_sqlite(Connection(second, ours.on.tenant)), None)
    shorten(monkeypatch, "lock_timeout")
    with other.group():
        refused(ours, 2, ErrorCode.IN_USE)
        put(theirs, 1)


def test_a_process_that_says_nothing_keeps_its_tenant_from_nobody(
    stores: tuple[Store, Store], second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = stores
    silent = Store(as_sqlite(Connection(second, ours.on.tenant)), None)
    shorten(monkeypatch, "idle_in_transaction_session_timeout")
    silent.connection.execute("BEGIN IMMEDIATE")
    silent.connection.execute("SELECT lsn FROM _entgldb_last")
    # waits for the row until PostgreSQL ends the other
    with ours.group():
        pass
    with pytest.raises(GoneError) as told:
        _ = silent.connection.execute("UPDATE _entgldb_state SET documents = 0").rowcount
    assert told.value.code == ErrorCode.DISK_ERROR
    silent.connection.execute("ROLLBACK")


def test_one_that_says_nothing_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = postgres.open_store("a", NOW).on.tenant
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    with proxy.before(postgres.address()) as silent, closing(Server(silent.address)) as on:
        waited: list[None] = []
        on.waits = lambda: waited.append(None)
        store = Store(as_sqlite(Connection(on, tenant)), None)
        put(store, 1)
        silent.goes_on.clear()
        refused(store, 2, ErrorCode.DISK_ERROR)
        silent.goes_on.set()
        before = len(waited)
        put(store, 2)
        assert len(waited) > before
        assert [row.seq for row in store.rows(1, 9)] == [1, 2]


def test_a_slow_way_costs_time_alone() -> None:
    tenant = postgres.open_store("a", NOW).on.tenant
    with proxy.before(postgres.address()) as slow, closing(Server(slow.address)) as on:
        store = Store(as_sqlite(Connection(on, tenant)), None)
        slow.delay = 0.1
        put(store, 1)
        put(store, 2)
        assert [row.seq for row in store.rows(1, 9)] == [1, 2]


def read_only(address: str) -> str:
    return make_conninfo(address, options="-c default_transaction_read_only=on")


def test_a_server_that_takes_no_writes_is_not_begun_on(stores: tuple[Store, Store]) -> None:
    ours, _ = stores
    with closing(Server(read_only(postgres.address()))) as on:
        with pytest.raises(GoneError, match="read-only"):
            Connection(on, ours.on.tenant).execute("SELECT lsn FROM _entgldb_last")
        assert on.identity == ""


def test_one_that_takes_none_any_more_is_read_on(stores: tuple[Store, Store], second: Server) -> None:
    ours, _ = stores
    store = Store(as_sqlite(Connection(second, ours.on.tenant)), None)
    second.alone("SET default_transaction_read_only = on")
    # BEGIN says READ WRITE for nobody
    refused(store, 2, ErrorCode.DISK_ERROR)
    second.alone("SET default_transaction_read_only = off")


@pytest.fixture
def no_more_connections() -> Iterator[Callable[[int], None]]:
    """Bound how many connections the database takes; -1: any number."""
    with psycopg.connect(postgres.address(), autocommit=True) as other:
        name = other.info.dbname

        def bound(most: int) -> None:
            other.execute(f"ALTER DATABASE {name} CONNECTION LIMIT {most}")  # type: ignore[arg-type]  # no literal

        yield bound
        bound(-1)


def test_without_a_connection_left_nothing_is_lost(
    no_more_connections: Callable[[int], None], second: Server
) -> None:
    ours = postgres.open_store("a", NOW)
    put(ours, 1)
    no_more_connections(0)
    newcomer = Connection(second, ours.on.tenant)
    with pytest.raises(GoneError, match="too many connections") as told:
        newcomer.execute("SELECT lsn FROM _entgldb_last")
    assert told.value.code == ErrorCode.DISK_ERROR
    put(ours, 2)
    no_more_connections(-1)
    assert newcomer.execute("SELECT lsn FROM _entgldb_last").fetchone() == (2,)


def test_a_process_has_so_many_connections_and_keeps_a_few_of_them(second: Server) -> None:
    held = [second.lease() for _ in range(module.CONNECTIONS_MAX)]
    with pytest.raises(EntglError, match=f"{module.CONNECTIONS_MAX} transactions of this process are open"):
        second.lease()
    for one in held:
        second.give_back(one)
    assert sum(not one.closed for one in held) == module.IDLE_MAX
    second.give_back(second.lease())
