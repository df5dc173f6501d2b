"""Pruning the log and collecting tombstones, on SQLite, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason, TokenExpired
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.local.members import Collected, Prune, Pruned
from entgldb.messages.model import NODES, Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import prune
from entgldb.storage.log.prune import STEP_ROWS
from entgldb.storage.store import Store

NOW = 1_800_000_000_000
LARGE = 2**40


class Bench:
    """A store that is written to and forgets."""

    def __init__(self) -> None:
        self.store = Store.memory("a", b"\1" * 32, NOW)
        self.counter = 0

    def write(self, *writes: tuple[str, bytes | None], collection: str = "users") -> None:
        self.counter += 1
        with self.store.group():
            self.store.write(
                RequestId(b"c" * 16, self.counter),
                [Write(collection, key, body) for key, body in writes],
                NOW,
                system=collection.startswith("_"),
            )

    def prune(self, aged: int = 0, stable: int = 0, bytes_max: int = LARGE) -> Pruned:
        own = self.store.origin
        with self.store.group():
            return self.store.prune(Prune({own: aged}, {own: stable}, bytes_max, 1, 0))

    def collect(self, frontier: int) -> Collected:
        with self.store.group():
            return self.store.collect({self.store.origin: frontier}, 0)

    def count(self, what: str) -> int:
        return int(self.store.connection.execute(f"SELECT count(*) FROM _entgldb_{what}").fetchone()[0])

    @property
    def documents(self) -> Documents:
        return Documents(self.store.connection)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.close()


def keys(*names: str, body: bytes | None = b"{}") -> list[tuple[str, bytes | None]]:
    return [(name, body) for name in names]


def test_rows_go_up_to_the_bound_and_the_counts_follow(bench: Bench) -> None:
    bench.write(*keys("k1", "k2", "k3"))
    assert bench.prune(aged=2) == Pruned(2, more=False)
    assert [row.seq for row in bench.store.rows(1, 10)] == [3]
    assert bench.store.floors() == {bench.store.origin: 2}
    found = bench.store.status()
    assert found["oplog_entries"] == 1
    assert found["pruned_lsn"] == 2
    assert bench.store.vector()[bench.store.origin][0] == 3
    assert bench.count("documents") == 3


def test_a_step_is_bounded_and_says_that_there_is_more(bench: Bench) -> None:
    for first in range(0, STEP_ROWS + 10, 500):
        bench.write(*keys(*(f"k{number}" for number in range(first, min(first + 500, STEP_ROWS + 10)))))
    assert bench.prune(aged=STEP_ROWS + 10) == Pruned(STEP_ROWS, more=True)
    assert bench.prune(aged=STEP_ROWS + 10) == Pruned(10, more=False)
    assert bench.store.status()["oplog_bytes"] == 0


def test_a_log_that_is_too_large_loses_its_oldest_stable_rows_and_no_more(bench: Bench) -> None:
    for number in range(10):
        bench.write(*keys(f"k{number}", body=b'{"fill": "' + b"x" * 1000 + b'"}'))
    size = bench.store.log_bytes()
    assert bench.prune(stable=10, bytes_max=size // 2 + 100).rows == 5
    assert bench.prune(stable=6, bytes_max=0).rows == 1
    assert bench.prune(stable=6, bytes_max=0) == Pruned(0, more=False)
    assert [row.seq for row in bench.store.rows(1, 10)] == [7, 8, 9, 10]


def test_writing_goes_on_after_all_is_pruned(bench: Bench) -> None:
    bench.write(*keys("k1", "k2"))
    bench.prune(aged=2)
    bench.write(*keys("k1", "k3"))
    assert [row.seq for row in bench.store.rows(1, 10)] == [3, 4]


def test_an_undone_step_has_not_happened(bench: Bench) -> None:
    bench.write(*keys("k1", "k2"))

    def torn() -> None:
        with bench.store.group():
            bench.store.prune(Prune({bench.store.origin: 2}, {}, LARGE, 1, 0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        torn()
    assert bench.store.floors() == {}
    assert bench.store.status()["oplog_entries"] == 2


def test_what_is_pruned_is_a_duplicate_when_it_comes_again(bench: Bench) -> None:
    other = Store.memory("b", b"\2" * 32, NOW)
    bench.write(*keys("k1", "k2"))
    sent = [Entry(row.header, row.body) for row in bench.store.rows(1, PAGE_ROWS_MAX)]
    with other.group():
        other.apply(sent, NOW)
    with other.group():
        other.prune(Prune({bench.store.origin: 2}, {}, LARGE, 1, 0))
    with other.group():
        again = other.apply(sent, NOW)
    assert again.counts == {Reason.DUPLICATE.value: 2}
    assert other.status()["quarantined"] == 0
    other.close()


def test_marks_tell_what_was_there_when(bench: Bench) -> None:
    own = bench.store.origin
    order = Prune({}, {}, LARGE, 1000, -5000)
    for seconds, key in ((0.0, "k1"), (0.5, "k2"), (1.0, "k3"), (9.0, "k4")):
        bench.write((key, b"{}"))
        bench.store.live(seconds)
        with bench.store.group():
            bench.store.prune(order)
    assert bench.store.marks() == [(0, {own: 1}), (1000, {own: 3}), (9000, {own: 4})]
    with bench.store.group():
        bench.store.prune(replace(order, aged_ms=8000))
    assert [at for at, _ in bench.store.marks()] == [1000, 9000]


def test_a_tombstone_goes_only_within_the_frontier_and_after_its_row(bench: Bench) -> None:
    bench.write(*keys("k1", "k2", "k3"))
    bench.write(*keys("k1", "k2", body=None))
    assert bench.collect(5).rows == 0
    bench.prune(aged=5)
    assert bench.collect(4).rows == 1
    assert bench.count("documents") == 2
    assert bench.collect(5).rows == 1
    assert bench.store.status()["collected_lsn"] == 5
    assert bench.documents.get("users", "k3") == {}


def test_tombstones_of_system_collections_stay(bench: Bench) -> None:
    bench.write(*keys("n9"), collection=NODES)
    bench.write(*keys("n9", body=None), collection=NODES)
    bench.prune(aged=2)
    assert bench.collect(2).rows == 0
    assert bench.store.known(NODES, "n9")


def test_a_put_after_its_tombstone_was_collected_is_a_new_document(bench: Bench) -> None:
    bench.write(*keys("k1"))
    bench.write(*keys("k1", body=None))
    bench.prune(aged=2)
    bench.collect(2)
    bench.write(*keys("k1"))
    assert bench.store.status()["documents"] == 1
    assert bench.store.status()["conflicts"] == 0


def test_the_feed_tells_every_document_once_though_the_log_is_pruned(bench: Bench) -> None:
    names = [f"k{number:04}" for number in range(PAGE_ROWS_MAX + 20)]
    bench.write(*keys(*names[:-10]))
    bench.write(*keys(*names[-10:], "k0003"))
    expected = [change.key for change in bench.documents.changes()]
    assert len(expected) == len(names)
    for aged in (1, 400, PAGE_ROWS_MAX + 15):
        bench.prune(aged=aged)
        assert [change.key for change in bench.documents.changes()] == expected
    first = list(bench.documents.changes())[5]
    assert [change.key for change in bench.documents.changes(first.token)] == expected[6:]


def test_the_feed_goes_on_when_the_log_is_pruned_under_it(bench: Bench) -> None:
    names = [f"k{number:04}" for number in range(3 * PAGE_ROWS_MAX)]
    for first in range(0, len(names), 100):
        bench.write(*keys(*names[first : first + 100]))
    feed = bench.documents.changes()
    found = [next(feed).key for _ in range(10)]
    bench.prune(aged=2 * PAGE_ROWS_MAX + 50)
    found += [change.key for change in feed]
    assert found == names


def test_a_token_from_before_a_forgotten_delete_is_refused_and_says_what_to_do(bench: Bench) -> None:
    bench.write(*keys("k1", "k2"))
    old = next(iter(bench.documents.changes())).token
    bench.write(*keys("k1", body=None))
    young = bench.documents.token()
    bench.prune(aged=3)
    assert [change.key for change in bench.documents.changes(old)] == ["k2", "k1"]
    bench.collect(3)
    with pytest.raises(TokenExpired, match="forgotten") as caught:
        bench.documents.changes(old)
    assert "since=None" in caught.value.hint
    assert list(bench.documents.changes(young)) == []
    assert [change.key for change in bench.documents.changes()] == ["k2"]


def test_a_feed_that_is_overtaken_by_forgetting_says_so(bench: Bench) -> None:
    names = [f"k{number:04}" for number in range(PAGE_ROWS_MAX + 5)]
    bench.write(*keys(*names))
    feed = bench.documents.changes()
    next(feed)
    bench.write(*keys("k0001", body=None))
    bench.prune(aged=PAGE_ROWS_MAX + 6)
    bench.collect(PAGE_ROWS_MAX + 6)
    with pytest.raises(TokenExpired):
        list(feed)


def test_notes_about_parents_that_came_and_were_pruned_do_not_stay(bench: Bench) -> None:
    bench.write(*keys("k1"))
    note = "INSERT INTO _entgldb_successors (origin, seq) VALUES (?, 1)"
    bench.store.connection.execute(note, (bench.store.origin,))
    bench.prune(aged=1)
    for seconds in (0.0, 3600.0):
        bench.store.live(seconds)
    with bench.store.group():
        bench.store.release_held(NOW)
    assert bench.count("successors") == 0


def test_a_step_is_bounded_by_what_its_rows_hold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "STEP_BYTES", 5_000)
    for number in range(6):
        bench.write(*keys(f"k{number}", body=b'{"fill": "' + b"x" * 2_000 + b'"}'))
    assert bench.prune(aged=6) == Pruned(2, more=True)
    assert bench.prune(stable=6, bytes_max=0) == Pruned(2, more=True)
    monkeypatch.setattr(prune, "STEP_BYTES", 10)
    assert bench.prune(aged=6) == Pruned(1, more=True)


def test_a_step_of_collecting_is_bounded_by_what_its_tombstones_hold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(*keys("k1", "k2", "k3"))
    bench.write(*keys("k1", "k2", "k3", body=None))
    bench.prune(aged=6)
    bench.store.connection.execute("UPDATE _entgldb_documents SET stamps = zeroblob(3000)")
    monkeypatch.setattr(prune, "STEP_BYTES", 5_000)
    assert bench.collect(6) == Collected(1, 4, more=True)
    with bench.store.group():
        assert bench.store.collect({bench.store.origin: 6}, 4) == Collected(1, 5, more=True)
        assert bench.store.collect({bench.store.origin: 6}, 5) == Collected(1, 6, more=False)
    assert bench.count("documents") == 0


@pytest.fixture
def unfit(bench: Bench) -> Bench:
    """The fourth of six entries is in quarantine; the second deletes what the first put."""
    bench.write(*keys("k1"))
    bench.write(("k1", None))
    bench.write(*keys("k2", "k3", "k4", "k5"))
    with bench.store.group():
        bench.store.connection.execute(
            "INSERT INTO _entgldb_quarantine"
            " (origin, seq, hlc, collection, key, header, reason, text, at_ms) SELECT origin, seq, 1,"
            " collection, key, header, 'invalid', '', 0 FROM _entgldb_oplog WHERE seq = 4"
        )
        bench.store.connection.execute("UPDATE _entgldb_oplog SET applied = 2 WHERE seq = 4")
        bench.store.state.unfit = 1
    return bench


@pytest.mark.parametrize("by_size", [False, True])
def test_an_entry_in_quarantine_and_all_behind_it_stay(unfit: Bench, *, by_size: bool) -> None:
    unfit.prune(**({"stable": 6, "bytes_max": 0} if by_size else {"aged": 6}))
    assert [row.seq for row in unfit.store.rows(1, 10)] == [4, 5, 6]
    assert unfit.store.floors() == {unfit.store.origin: 3}


def test_no_tombstone_goes_while_an_entry_is_in_quarantine(unfit: Bench) -> None:
    unfit.prune(aged=6)
    assert unfit.collect(6) == Collected(0, 0, more=False, waits=True)
    with unfit.store.group():
        unfit.store.connection.execute("DELETE FROM _entgldb_quarantine")
        unfit.store.state.unfit = 0
    assert unfit.collect(6).rows == 1


@pytest.mark.parametrize(("frontier", "pruned", "gone"), [(1, 2, 0), (2, 1, 0), (2, 2, 1)])
def test_a_tombstone_goes_at_its_bounds_and_not_one_before(
    bench: Bench, frontier: int, pruned: int, gone: int
) -> None:
    bench.write(*keys("k1"))
    bench.write(("k1", None))
    bench.prune(aged=pruned)
    assert bench.collect(frontier).rows == gone
    assert bench.count("documents") == 1 - gone
