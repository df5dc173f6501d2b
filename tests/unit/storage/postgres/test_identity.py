"""A PostgreSQL that was restored, or to which was failed over, may lack what the peers have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.postgres import identity
from entgldb.storage.postgres import server as module
from entgldb.storage.postgres.connection import ReplacedError
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.postgres.store import LogReader, Store
from entgldb.storage.rules.incarnations import Why
from tests.support import postgres

NOW = 1_790_000_000_000
NOTED = "SELECT value FROM _entgldb_meta WHERE name = 'postgres'"


def write(store: Store, counter: int) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, counter), [Write("c", f"k{counter}", b"{}")], NOW)


def again(store: Store) -> Store:
    return Store.connect(postgres.address(), store.on.tenant, "cloud", NOW)


def test_an_earlier_state_of_the_database_goes_on_as_a_new_writer_once() -> None:
    store = postgres.open_store("cloud", NOW)
    write(store, 1)
    (noted,) = store.connection.execute(NOTED).fetchone()
    identifier, timeline = noted.split("/")
    assert int(identifier) > 0
    assert again(store).origin == store.origin
    store.connection.execute(
        "UPDATE _entgldb_meta SET value = ? WHERE name = 'postgres'",
        (f"{identifier}/{int(timeline, 16) + 1}",),
    )
    anew = again(store)
    assert (anew.reborn, anew.origin == store.origin) == (Why.ROLLED_BACK, False)
    write(anew, 2)
    assert anew.vector().keys() == {store.origin, anew.origin}
    assert again(anew).origin == anew.origin


def test_a_tenant_that_is_open_fails_until_it_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    store = postgres.open_store("cloud", NOW)
    write(store, 1)
    reader = LogReader.connect(postgres.address(), store.on.tenant)
    assert reader.last_lsn() == 1
    # as a connection to the standby would find it
    monkeypatch.setattr(store.on.server, "identity", "1/00000002")
    for _ in range(2):
        with pytest.raises(EntglError, match="opened on another PostgreSQL") as told:
            write(store, 2)
        assert told.value.code == ErrorCode.DISK_ERROR
        with pytest.raises(ReplacedError):
            reader.last_lsn()
    anew = again(store)
    write(anew, 2)
    assert anew.origin != store.origin


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The connections to a service that does not tell which PostgreSQL it is."""
    monkeypatch.setattr(module, "_IDENTITY", "SELECT 1 FROM what_a_service_hides")
    made = Server(postgres.address())
    monkeypatch.setattr("entgldb.storage.postgres.store.server", lambda _: made)
    yield made
    made.close()


def test_where_it_is_hidden_nothing_is_noted(hidden: Server) -> None:
    store = postgres.open_store("cloud", NOW)
    write(store, 1)
    assert hidden.identity == ""
    assert store.connection.execute(NOTED).fetchone() is None
    assert again(store).origin == store.origin


@pytest.mark.usefixtures("hidden")
def test_where_it_is_hidden_the_word_of_the_operator_makes_a_new_writer_once() -> None:
    marked_and_opened_anew(postgres.open_store("cloud", NOW))


def test_where_it_is_known_the_word_of_the_operator_counts_as_well() -> None:
    marked_and_opened_anew(postgres.open_store("cloud", NOW))


def marked_and_opened_anew(store: Store) -> None:
    write(store, 1)
    other = postgres.open_store("cloud", NOW)
    identity.mark(store.on.server, store.on.tenant)
    with pytest.raises(EntglError, match="was restored"):
        write(store, 2)
    with pytest.raises(ReplacedError, match="was restored"):
        store.follow(-1)
    anew = again(store)
    assert (anew.reborn, anew.origin == store.origin) == (Why.RESTORED, False)
    write(anew, 2)
    assert (again(anew).origin, again(anew).reborn) == (anew.origin, None)
    assert anew.vector().keys() == {store.origin, anew.origin}
    # a process that has it open, and has heard of the new writer alone, goes on as it
    store.follow(-1)
    assert store.origin == anew.origin
    assert again(other).origin == other.origin


def test_of_a_tenant_without_data_nothing_is_marked() -> None:
    name = postgres.fresh_tenant()
    identity.mark(server(postgres.address()), name)
    assert Store.connect(postgres.address(), name, "cloud", NOW).reborn is None
