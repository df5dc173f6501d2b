"""The state follows from the log's tail, and is saved where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.local.members import Prune
from entgldb.messages.model import Entry
from entgldb.storage.file import state as states
from entgldb.storage.file.open import open_reader
from entgldb.storage.file.state import State
from entgldb.storage.log.read import LogQueries
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
CLIENT = b"c" * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(tmp_path, "n1", NOW)
    yield made
    made.close()


def put(store: Store, counter: int, *keys: str, body: bytes | None = b"{}") -> None:
    with store.group():
        writes = [Write("c", key, body) for key in keys]
        store.write(RequestId(CLIENT, counter), writes, NOW + counter)


def saved(store: Store) -> int:
    return int(store.connection.execute("SELECT lsn FROM _entgldb_state").fetchone()[0])


def agrees(store: Store) -> bool:
    """Memory, a start, and a check of the file."""
    return State.load(store.connection) == store.state and Checkup(store.connection).run() == []


def test_a_put_saves_no_state_and_the_state_is_there(store: Store) -> None:
    put(store, 1, "a", "b")
    before = saved(store)
    put(store, 2, "a", "c", "d")
    put(store, 3, "b", body=None)
    put(store, 4, "absent", body=None)
    assert (saved(store), store.last_lsn(), store.status()["documents"]) == (before, 6, 3)
    assert agrees(store)


def test_it_is_saved_every_so_many_rows_and_every_second_of_commits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "SAVE_ROWS", 3)
    put(store, 1, "a")
    put(store, 2, "b")
    assert saved(store) == 0
    put(store, 3, "c")
    assert saved(store) == 3
    store.live(0.0)
    store.live(1.5, NOW)
    put(store, 4, "d")
    assert (saved(store), agrees(store)) == (4, True)


def test_large_rows_have_it_saved_sooner(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "SAVE_BYTES", 10_000)
    body = b'{"x":"%s"}' % (b"x" * 6_000)
    put(store, 1, "a", body=body)
    assert saved(store) == 0
    put(store, 2, "b", body=body)
    assert (saved(store), agrees(store)) == (2, True)


def test_a_foreign_batch_saves_none_and_one_with_a_conflict_does(store: Store) -> None:
    other = Store.memory("n2", b"n2", NOW)
    put(other, 1, "a", "b")
    with store.group():
        store.apply([Entry(row.header, row.body) for row in other.rows(1, 9)], NOW)
    assert (saved(store), agrees(store)) == (0, True)
    put(store, 1, "mine")
    put(other, 2, "mine")
    with store.group():
        store.apply([Entry(row.header, row.body) for row in other.rows(3, 9)], NOW)
    assert (saved(store), store.status()["conflicts"], agrees(store)) == (4, 1, True)
    other.close()


def test_pruning_and_the_stop_save_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "n1", NOW)
    put(store, 1, "a", "b", "c")
    with store.group():
        store.prune(Prune({store.origin: 2}, {}, 0, 1 << 40, 0))
    assert (saved(store), store.status()["oplog_entries"], agrees(store)) == (3, 1, True)
    put(store, 2, "d")
    store.close()
    with closing(open_reader(tmp_path)) as connection:
        assert connection.execute("SELECT lsn, documents FROM _entgldb_state").fetchone() == (4, 4)


def test_an_undone_save_is_done_by_the_next_commit(store: Store) -> None:
    put(store, 1, "a")
    with suppress(RuntimeError), store.group():
        store.state.loose = True
        store.state.save(store.connection)
        raise RuntimeError
    assert (saved(store), agrees(store)) == (0, True)
    put(store, 2, "b")
    assert (saved(store), agrees(store)) == (0, True)


def test_a_reader_sees_each_commit(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "SAVE_ROWS", 5)
    reader = LogQueries(open_reader(tmp_path))
    other = Store.memory("n2", b"n2", NOW)
    for counter in range(1, 20):
        put(store, counter, f"k{counter % 4}")
        put(other, counter, f"o{counter % 3}")
        with store.group():
            store.apply([Entry(row.header, row.body) for row in other.rows(counter, 1)], NOW)
        assert (reader.vector(), reader.last_lsn()) == (store.vector(), store.last_lsn())
        assert reader.size() == (store.status()["documents"], store.status()["oplog_entries"])
        assert reader.high_mark_ms() == store.high_mark_ms()
        assert reader.first_missing({store.origin: counter - 1}) == store.first_missing(
            {store.origin: counter - 1}
        )
        assert reader.log_bytes() == store.state.log_bytes
    reader.close()
    other.close()


def test_a_reader_sees_a_head_that_goes_back(store: Store, tmp_path: Path) -> None:
    """No row of the log, and no number of one, says so."""
    put(store, 1, "a")
    before = store.state.origins[store.origin].head
    put(store, 2, "b")
    with store.group():
        store.state.loose = True
    reader = LogQueries(open_reader(tmp_path))
    assert reader.vector()[store.origin][0] == 2
    with store.group():
        store.connection.execute("DELETE FROM _entgldb_oplog WHERE seq = 2")
        store.state.move(store.origin, before)
    assert reader.vector() == store.vector() == {store.origin: before[:2]}
    reader.close()
