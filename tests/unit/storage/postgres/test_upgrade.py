"""Tables of an earlier format are brought forward, by one process, as a whole or not at all.

Only format 1 exists. So the release that opens them here has a format more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError, EntglError
from entgldb.storage.postgres import schema
from entgldb.storage.postgres.catalogue import Catalogue
from entgldb.storage.postgres.connection import ReplacedError
from entgldb.storage.postgres.server import PostgresFault, Server, server
from entgldb.storage.postgres.store import Store
from entgldb.storage.postgres.tenants import copy_out
from tests.support import postgres

NOW = 1_790_000_000_000
OPENERS = 4
STEP = """ALTER TABLE entgldb_documents_a ADD COLUMN of_tomorrow BIGINT;
CREATE TABLE entgldb_of_tomorrow (tenant TEXT PRIMARY KEY, documents BIGINT NOT NULL);
INSERT INTO entgldb_of_tomorrow SELECT tenant, count(*) FROM entgldb_documents_a GROUP BY tenant"""
COUNTED = "SELECT documents FROM entgldb_of_tomorrow ORDER BY documents"


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a place without tables, in the database that all tests share."""
    # a test makes all tables anew: sixteen parts of some would take the longest
    monkeypatch.setattr(schema, "PARTS", 1)
    name = postgres.fresh_tenant("upgrade").replace("-", "_")
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    made = make_conninfo(postgres.address(), options=f"-csearch_path={name}")
    yield made
    server(made).close()
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


def write(store: Store, number: int = 1, documents: int = 1) -> None:
    with store.group():
        writes = [Write("c", f"k{number}-{n}", b"{}") for n in range(documents)]
        store.write(RequestId(b"c" * 16, number), writes, NOW)


@pytest.fixture
def stores(empty: str) -> list[Store]:
    """Two tenants in tables of this format, with one document and two."""
    made = [Store.connect(empty, name, "cloud", NOW) for name in ("a", "b")]
    for number, store in enumerate(made, 1):
        write(store, documents=number)
    return made


@pytest.fixture
def later(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Called, it is the release after this one that runs, with that step."""

    def install(step: str = STEP) -> None:
        monkeypatch.setattr(schema, "STEPS", (step,))
        monkeypatch.setattr(schema, "FORMAT", 2)

    return install


def form(address: str) -> int:
    ((found,),) = server(address).alone("SELECT version FROM entgldb_schema")
    return int(found)


def test_a_step_sees_the_rows_of_all_tenants_and_nothing_is_lost(
    empty: str, stores: list[Store], later: Callable[..., None]
) -> None:
    later()
    for store in stores:
        before = store.documents("c")
        anew = Store.connect(empty, store.on.tenant, "cloud", NOW)
        assert (anew.origin, anew.documents("c")) == (store.origin, before)
        write(anew, 2)
    assert form(empty) == 2
    assert server(empty).alone(COUNTED) == [(1,), (2,)]
    # and then each tenant sees its own rows alone, as before
    assert server(empty).alone("SELECT count(*) FROM entgldb_documents") == [(0,)]


def test_a_new_database_is_made_by_the_same_steps(empty: str, later: Callable[..., None]) -> None:
    later()
    store = Store.connect(empty, "a", "cloud", NOW)
    write(store)
    assert (form(empty), server(empty).alone(COUNTED)) == (2, [])
    assert Store.connect(empty, "a", "cloud", NOW).documents("c") == store.documents("c")


@pytest.mark.usefixtures("stores")
def test_of_processes_that_begin_at_once_one_takes_the_step(empty: str, later: Callable[..., None]) -> None:
    later()
    processes, faults = [Server(empty) for _ in range(OPENERS)], list[BaseException]()
    gate = threading.Barrier(OPENERS)

    def begin(process: Server) -> None:
        try:
            gate.wait()
            schema.prepare(process)
        except BaseException as fault:  # noqa: BLE001 -- told by the test
            faults.append(fault)

    threads = [threading.Thread(target=begin, args=(process,)) for process in processes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for process in processes:
        process.close()
    assert (faults, form(empty)) == ([], 2)


def test_a_step_that_fails_leaves_all_as_it_was(
    empty: str, stores: list[Store], later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr(schema, "STEPS", (f"{STEP};SELECT 1 / 0",))
        other.setattr(schema, "FORMAT", 2)
        with pytest.raises(EntglError, match="division by zero"):
            Store.connect(empty, "a", "cloud", NOW)
    assert form(empty) == 1
    with pytest.raises(PostgresFault, match="of_tomorrow"):
        server(empty).alone(COUNTED)
    for store in stores:
        write(store, 2)
    later()
    Store.connect(empty, "a", "cloud", NOW)
    assert server(empty).alone(COUNTED) == [(2,), (3,)]


def test_a_process_of_the_release_before_notices_it_and_writes_nothing_more(
    empty: str, stores: list[Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as other:
        other.setattr(schema, "STEPS", (STEP,))
        other.setattr(schema, "FORMAT", 2)
        with pytest.raises(ConfigError, match="have format 1") as told:
            copy_out(empty, "a", tmp_path)
        assert "start a cloud node" in told.value.hint
        assert form(empty) == 1
        schema.prepare(server(empty))
        catalogue = Catalogue(empty, list)
        row = catalogue.get("a")
        assert row is not None
    for store in stores:
        with pytest.raises(EntglError, match="of a newer release by now"):
            write(store, 2)
        with pytest.raises(ReplacedError, match="of a newer release by now"):
            store.follow(-1)
    for opened in (
        lambda: Store.connect(empty, "a", "cloud", NOW),
        lambda: copy_out(empty, "a", tmp_path),
        lambda: Catalogue(empty, list).get("a"),
    ):
        with pytest.raises(ConfigError, match="have format 2, this release knows up to 1"):
            opened()
    assert list(tmp_path.iterdir()) == []


CHANGES = {
    "entgldb_state.time_ms": "ALTER TABLE entgldb_state DROP COLUMN time_ms",
    "entgldb_runs": "DROP TABLE entgldb_runs",
    "entgldb_processes.links": "DROP TABLE entgldb_processes",
}
"""Missing part, of several the first by its name -> the statement that takes it out."""


@pytest.mark.usefixtures("stores")
def test_tables_from_before_the_first_release_are_refused(empty: str) -> None:
    for missing, change in CHANGES.items():
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(change.encode())
        other = Server(empty)
        with pytest.raises(ConfigError, match=f"before the first release.*{missing}") as told:
            schema.prepare(other)
        assert "begin with an empty database" in told.value.hint
        other.close()
