"""A snapshot is merged in steps on PostgreSQL: who is served between them, and who sees what of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.merging import sides
from entgldb.storage.postgres.server import Server
from entgldb.storage.postgres.store import LogReader, as_sqlite
from entgldb.storage.postgres.store import Store as PostgresStore
from entgldb.storage.store import Store
from tests.support import postgres
from tests.support.merging import left_by_a_merge
from tests.unit.storage.snapshot.snapshots import in_steps, staged

NOW = 1_790_000_000_000
KEYS = [f"k{number}" for number in range(6)]
STEPS = len(KEYS) + 2
"""One to begin, one for each key, and the last."""


def put(store: Store, counter: int, *keys: str) -> None:
    with store.group():
        writes = [Write("users", key, b'{"n":%d}' % counter) for key in keys]
        store.write(RequestId(store.origin[-16:].encode(), counter), writes, NOW + counter)


def step(store: Store, name: str) -> bool:
    """Take one; whether it was the last."""
    done = store.install_step(name, b"e" * 32, NOW + 100, cloud=True)
    assert done is None or done.refused == ""
    return done is not None


def keys(store: Store) -> list[str]:
    return [key for key, _ in store.documents("users")]


@pytest.fixture
def snapshot(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of one that is staged, and is merged one key at a time."""
    in_steps(monkeypatch)
    giver = Store.memory("giver", b"g" * 32, NOW)
    put(giver, 1, *KEYS)
    with staged(giver, NOW, cloud=True) as name:
        yield name
    giver.connection.close()


@pytest.fixture
def taker() -> PostgresStore:
    return postgres.like_memory("cloud", b"c", NOW)


@pytest.fixture
def elsewhere(taker: PostgresStore) -> Iterator[PostgresStore]:
    """The same tenant at another process."""
    with closing(Server(postgres.address())) as server:
        server.notes = True
        made = PostgresStore(as_sqlite(Connection(server, taker.on.tenant)), None)
        made.serve()
        yield made


def test_writes_of_other_tenants_are_answered_between_the_steps(taker: PostgresStore, snapshot: str) -> None:
    other, answered = postgres.open_store("other", NOW), 0
    while not step(taker, snapshot):
        answered += 1
        put(other, answered, f"own{answered}")
        assert other.get("users", f"own{answered}") is not None
    assert answered >= STEPS - 1
    assert (keys(taker), len(keys(other))) == (KEYS, answered)


def test_every_reader_sees_all_of_it_or_nothing(
    taker: PostgresStore, elsewhere: PostgresStore, snapshot: str
) -> None:
    put(taker, 1, "own")
    reader = LogReader.connect(postgres.address(), taker.on.tenant)
    with psycopg.connect(postgres.address()) as person:
        seen = list[tuple[object, ...]]()

        def look() -> None:
            person.execute("SELECT set_config('entgldb.tenant', %s, true)", [taker.on.tenant])
            rows = person.execute("SELECT key FROM entgldb_documents ORDER BY key").fetchall()
            person.rollback()
            with elsewhere.group():
                within = keys(elsewhere)
            counted = reader.connection.execute("SELECT count(*) FROM _entgldb_documents").fetchone()
            seen.append(([key for (key,) in rows], within, keys(taker), counted, elsewhere.size()[0]))

        while not step(taker, snapshot):
            look()
        look()
    whole = [*KEYS, "own"]
    assert seen[:-1] == [(["own"], ["own"], ["own"], (1,), 1)] * len(seen[:-1])
    assert seen[-1] == (whole, whole, whole, (len(whole),), len(whole))
    assert len(seen) >= STEPS


def test_a_key_that_another_process_writes_meanwhile_is_merged_again(
    taker: PostgresStore, elsewhere: PostgresStore, snapshot: str
) -> None:
    for _ in range(STEPS - 2):
        assert not step(taker, snapshot)
    put(elsewhere, 7, KEYS[0], "new")
    while not step(taker, snapshot):
        pass
    assert keys(taker) == [*KEYS, "new"]
    assert taker.get("users", KEYS[0]) == b'{"n":7}'
    while elsewhere.tidy_merge():
        pass
    assert left_by_a_merge(taker) == []
    with taker.group():
        pass
    assert taker.size()[0] == len(KEYS) + 1


def test_a_second_merge_shows_the_first_side_again(taker: PostgresStore, snapshot: str) -> None:
    while not step(taker, snapshot):
        pass
    giver = Store.memory("second", b"s" * 32, NOW)
    put(giver, 1, "of-the-second", "own")
    with staged(giver, NOW, cloud=True) as name:
        while not step(taker, name):
            put(taker, 1, "own")
    giver.connection.close()
    assert keys(taker) == [*KEYS, "of-the-second", "own"]
    while taker.tidy_merge():
        pass
    assert left_by_a_merge(taker) == []


@pytest.mark.parametrize("after", range(1, STEPS))
def test_a_process_that_dies_between_two_steps_is_gone_on_for(
    taker: PostgresStore, snapshot: str, after: int
) -> None:
    for _ in range(after):
        assert not step(taker, snapshot)
    again, left = PostgresStore.connect(postgres.address(), taker.on.tenant, "cloud", NOW), 1
    while not step(again, snapshot):
        left += 1
    # where the log of the taker has moved on, by the new process, it may begin anew
    assert keys(again) == KEYS
    assert after + left <= STEPS + 1


def test_of_two_processes_that_merge_one_tenant_the_second_waits_until_the_first_is_gone(
    monkeypatch: pytest.MonkeyPatch, taker: PostgresStore, elsewhere: PostgresStore, snapshot: str
) -> None:
    assert not step(taker, snapshot)
    giver = Store.memory("second", b"s" * 32, NOW)
    put(giver, 1, "of-the-second")
    with staged(giver, NOW, cloud=True) as name:
        told = elsewhere.install_step(name, b"f" * 32, NOW + 100, cloud=True)
        assert told is not None
        assert told.refused == Reason.STORE_BUSY.value
        assert not step(taker, snapshot)
        monkeypatch.setattr(sides, "_OF_ANOTHER", sides._OF_ANOTHER.replace(str(sides.ALIVE_MS), "0"))
        while not step(elsewhere, name):
            pass
    giver.connection.close()
    assert keys(taker) == ["of-the-second"]


def test_without_triggers_it_is_one_transaction(
    monkeypatch: pytest.MonkeyPatch, taker: PostgresStore, snapshot: str
) -> None:
    monkeypatch.setattr(taker.on.server, "notes", False)
    assert step(taker, snapshot)
    assert keys(taker) == KEYS
