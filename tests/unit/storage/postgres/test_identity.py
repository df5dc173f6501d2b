"""A PostgreSQL that was restored, or to which was failed over, may lack what the peers have."""

from __future__ import annotations

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.postgres import server as module
from entgldb.storage.postgres.connection import ReplacedError
from entgldb.storage.postgres.server import Server
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


def test_where_it_is_hidden_nothing_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDENTITY", "SELECT 1 FROM what_a_service_hides")
    hidden = Server(postgres.address())
    monkeypatch.setattr("entgldb.storage.postgres.store.server", lambda _: hidden)
    store = postgres.open_store("cloud", NOW)
    write(store, 1)
    assert hidden.identity == ""
    assert store.connection.execute(NOTED).fetchone() is None
    assert again(store).origin == store.origin
    hidden.close()
