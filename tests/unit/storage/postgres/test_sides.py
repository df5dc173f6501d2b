"""A snapshot is merged in steps on PostgreSQL: who is served between them, and who sees what of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local.members import Prune
from entgldb.messages.model import EXPELLED, Entry
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.merging import sides
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.postgres.store import LogReader, as_sqlite
from entgldb.storage.postgres.store import Store as PostgresStore
from entgldb.storage.rules.ended import any_log
from entgldb.storage.rules.ended import ending as written_end
from entgldb.storage.snapshot import steps
from entgldb.storage.snapshot.shadow import MARK
from entgldb.storage.store import Store
from tests.support import postgres
from tests.support.merging import left_by_a_merge
from tests.unit.storage.postgres.test_cuts import end
from tests.unit.storage.postgres.test_two_writers import ENTRIES, PATIENCE_S, said, started
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


def finish(store: Store, name: str) -> None:
    """Take all steps that are left, and those that remove what the merge leaves."""
    while not step(store, name):
        pass
    while store.tidy_merge():
        pass
    assert left_by_a_merge(store) == []


def entries(store: Store) -> list[Entry]:
    """All that its log has."""
    return [Entry(row.header, row.body) for row in store.rows(1, 500)]


def take(store: Store, given: list[Entry]) -> None:
    with store.group():
        assert store.apply(given, NOW + 50).refused == ""


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
    while taker.tidy_merge():
        pass
    put(taker, 1, "own")
    assert left_by_a_merge(taker) == [], "nobody notes any more what is written"


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


def test_a_step_whose_connection_ends_before_its_commit_has_done_nothing(
    monkeypatch: pytest.MonkeyPatch, taker: PostgresStore, snapshot: str
) -> None:
    keep, cuts = sides.Sides.keep, 0

    def keep_and_end(shadow: sides.Sides, mark: str) -> None:
        keep(shadow, mark)
        assert taker.on._held is not None
        end(taker.on._held.info.backend_pid)

    def mark() -> object:
        return taker.connection.execute(f"SELECT mark FROM {MARK}").fetchone()

    done = False
    while not done:
        before, cuts = mark(), cuts + 1
        with monkeypatch.context() as patch:
            patch.setattr(sides.Sides, "keep", keep_and_end)
            with pytest.raises(EntglError):
                step(taker, snapshot)
        assert (mark(), keys(taker)) == (before, [])
        done = step(taker, snapshot)
    assert cuts >= STEPS
    finish(taker, snapshot)
    assert (keys(taker), taker.size()[0]) == (KEYS, len(KEYS))


@pytest.mark.slow
def test_a_merge_whose_server_has_died_is_taken_up_or_undone(snapshot: str) -> None:
    with postgres.a_server() as running:
        store = PostgresStore.connect(running.address, "t", "cloud", NOW)
        store.live(0.0)
        put(store, 1, "own")
        giver = Store.memory("second", b"s" * 32, NOW)
        put(giver, 1, "of-the-second")
        with staged(giver, NOW, cloud=True) as second:
            for name in (snapshot, second):
                assert not step(store, name)
                assert not step(store, name)
                running.end()
                with pytest.raises(EntglError):
                    step(store, name)
                running.start()
                if name == snapshot:
                    finish(store, name)
        giver.connection.close()
        store.live(steps.STALE_MS / 1000 + 1)
        put(store, 2, "own")
        while store.tidy_merge():
            pass
        assert left_by_a_merge(store) == []
        assert keys(store) == [*KEYS, "own"]
        server(running.address).close()


def test_a_process_that_writes_while_another_merges_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taker: PostgresStore
) -> None:
    in_steps(monkeypatch)
    both, until = ["1-1-0", "1-2-1"], time.monotonic() + PATIENCE_S
    reader = LogReader.connect(postgres.address(), taker.on.tenant)
    giver = Store.memory("giver", b"g" * 32, NOW)
    put(giver, 1, *both, *KEYS)
    with ExitStack() as stack:
        name = stack.enter_context(staged(giver, NOW, cloud=True))
        stack.callback(giver.connection.close)
        writer = stack.enter_context(started(taker.on.tenant, tmp_path / "answers", 1))
        stack.callback(writer.kill)
        assert said(writer) == "ready"
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        last = 0
        while True:
            while writer.poll() is None and reader.last_lsn() <= last:
                assert time.monotonic() < until, "the other process does not write"
            last = reader.last_lsn()
            assert last > 0
            if step(taker, name):
                break
        assert writer.wait(PATIENCE_S) == 0
    turns = len((tmp_path / "answers").read_text().split())
    written = [f"1-{turn}-{n}" for turn in range(1, turns + 1) for n in range(ENTRIES)]
    with taker.group():
        pass
    assert keys(taker) == sorted({*written, *both, *KEYS})
    assert taker.size()[0] == len({*written, *both, *KEYS})
    assert taker.vector()[taker.origin][0] == turns * ENTRIES
    while taker.tidy_merge():
        pass
    assert left_by_a_merge(taker) == []


def test_retention_between_two_steps_leaves_what_is_merged_as_it_is(
    monkeypatch: pytest.MonkeyPatch, taker: PostgresStore, elsewhere: PostgresStore
) -> None:
    """Of a key whose delete is collected meanwhile the giver still has the document."""
    in_steps(monkeypatch)
    source, giver = Store.memory("source", b"s" * 32, NOW), Store.memory("giver", b"g" * 32, NOW)
    put(source, 1, "gone0", "gone1", "stays")
    take(giver, entries(source))
    put(giver, 1, *KEYS)
    with source.group():
        deletes = [Write("users", key, None) for key in ("gone0", "gone1")]
        source.write(RequestId(b"d" * 16, 2), deletes, NOW + 2)
    take(taker, entries(source))
    pruned = collected = 0
    with staged(giver, NOW, cloud=True) as name:
        while not step(taker, name):
            vector = {origin: seq for origin, (seq, _) in elsewhere.vector().items()}
            with elsewhere.group():
                pruned += elsewhere.prune(Prune(vector, vector, 0, 1, 0)).rows
                collected += elsewhere.collect(vector, 0).rows
        while taker.tidy_merge():
            pass
    for store in (source, giver):
        store.connection.close()
    assert (pruned, collected) == (5, 2)
    assert keys(taker) == [*KEYS, "stays"]
    assert taker.connection.execute("SELECT count(*) FROM _entgldb_documents").fetchone() == (len(KEYS) + 1,)
    assert left_by_a_merge(taker) == []


def test_a_merge_ends_where_its_giver_counts_no_more_between_two_steps(
    taker: PostgresStore, elsewhere: PostgresStore, snapshot: str
) -> None:
    judge = Store.memory("judge", b"j" * 32, NOW)
    with judge.group():
        word = Write(EXPELLED, written_end(any_log("giver"), 0), b'{"Said": {"judge": 1}}')
        judge.write(RequestId(b"e" * 16, 1), [word], NOW + 2, system=True)
    for _ in range(STEPS - 2):
        assert not step(taker, snapshot)
    take(elsewhere, entries(judge))
    judge.connection.close()
    told = None
    while told is None:
        told = taker.install_step(snapshot, b"e" * 32, NOW + 100, cloud=True)
    assert (told.refused, keys(taker)) == (Reason.EXPELLED.value, [])
    assert left_by_a_merge(taker) == []
