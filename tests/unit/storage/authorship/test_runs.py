"""The first entry that a node writes once it has opened its file says so, and is known for good."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import (
    COUNT_MAX,
    FRAME_BYTES_MAX,
    ORIGINS_MAX,
    RUN_HASH_BYTES,
    RUNS_MAX,
    RUNS_TOLD_MAX,
    SIGNATURE_BYTES,
)
from entgldb.messages.local.members import Prune
from entgldb.storage.authorship import runs
from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.comparing.chunks import Mark, Preface, encode_preface
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]


def put(store: Store, number: int, *writes: Write) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, number), writes or [doc(f"k{number}")], NOW)


def begun(store: Store) -> list[int]:
    """The entries with which runs began, by the log itself."""
    return [row.seq for row in store.rows(1, 1_000) if decode(row.header).begins]


def runs_of(store: Store) -> list[tuple[int, bytes]]:
    """The same, by what the file keeps of them."""
    return list(runs.of_all(store.connection, 1).get(store.state.origins[store.origin].number, ()))


def test_the_first_entry_after_each_opening_begins_a_run(tmp_path: Path) -> None:
    number = 0
    for _ in range(3):
        with closing(Store.open(tmp_path, "a", NOW)) as store:
            for _ in range(2):
                number += 1
                put(store, number, doc(f"k{number}"), doc(f"l{number}"))
    with closing(Store.open(tmp_path, "a", NOW)) as store:
        assert begun(store) == [1, 5, 9]
        found = runs_of(store)
        assert [seq for seq, _ in found] == [1, 5, 9]
        hashes = dict(store.connection.execute("SELECT seq, hash FROM _entgldb_oplog").fetchall())
        assert all(hashes[seq][:RUN_HASH_BYTES] == digest for seq, digest in found)
        # of a log that is pruned they are known all the same
        with store.group():
            store.prune(Prune({store.origin: 12}, {store.origin: 12}, 0, 0, 0))
        assert store.rows(1, 10) == []
        assert runs_of(store) == found


def test_a_transaction_that_is_undone_begins_no_run(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, doc("k"))
    store.state.run = ""
    with store.group():
        bench.counter += 1
        with pytest.raises(InvalidError), store.savepoint(lazily=True):
            store.write(bench.request(), [doc("k1"), doc("", b"{}")], NOW)
        with store.savepoint(lazily=True):
            store.write(bench.request(), [doc("k2")], NOW)
    store.state.run = ""
    with pytest.raises(InvalidError), store.group():
        store.write(bench.request(), [doc("k3"), doc("", b"{}")], NOW)
    assert begun(store) == [seq for seq, _ in runs_of(store)] == [1, 2]


def test_whoever_takes_the_log_knows_its_runs(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    for number in range(RUNS_MAX + 3):
        a.state.run = ""
        bench.put(a, doc(f"k{number}"), doc(f"l{number}"))
    bench.apply(b, entries(a))
    for store in (a, b):
        number = store.state.origins[a.origin].number
        found = runs.of_all(store.connection, 1)[number]
        assert [seq for seq, _ in found] == [2 * n + 1 for n in range(3, RUNS_MAX + 3)]
    # of many logs a snapshot tells the newest of each
    told = runs.of_all(b.connection, RUNS_TOLD_MAX // 2)[b.state.origins[a.origin].number]
    assert list(told) == list(found[-2:])


def test_by_its_runs_a_log_is_told_from_another_branch_of_it(bench: Bench) -> None:
    store = bench.make("a")
    for number in range(3):
        store.state.run = ""
        bench.put(store, doc(f"k{number}"), doc(f"l{number}"))
    known, found = store.state.origins[store.origin], list(runs_of(store))
    assert [seq for seq, _ in found] == [1, 3, 5]
    other = [*found[:1], (3, b"other fi"), (9, b"other ni")]
    for theirs, head, first in (
        (found, 6, 0),
        (found[:1], 2, 0),  # it ends where ours goes on
        (other, 9, 3),
        (other[:1], 4, 3),
        (other[:1], 2, 0),
        ([(1, b"other on")], 6, 1),
        ([(4, b"other fo")], 6, 1),  # its first runs are forgotten
    ):
        assert runs.parted(store.connection, known, theirs, head, differs=theirs != found) == first


def test_what_is_written_again_begins_a_run_where_it_is_the_first_of_its_own_log(bench: Bench) -> None:
    """After a reset of the clock: the old log's sign does not go along."""
    store = bench.make("a")
    bench.put(store, doc("k"))
    store.state.run = ""
    bench.put(store, doc("k1"), doc("k2"))
    with store.group():
        store.incarnations.reincarnate(b"e" * 32, Why.ROLLED_BACK, NOW)
    bench.put(store, doc("k3"))
    bench.put(store, doc("k4"))
    made = [(row.seq, decode(row.header).begins) for row in store.rows(1, 9) if row.origin == store.origin]
    assert made == [(1, True), (2, False)]


def test_the_head_of_a_snapshot_of_as_many_logs_as_there_can_be_is_one_frame() -> None:
    each = RUNS_TOLD_MAX // ORIGINS_MAX
    told = tuple((COUNT_MAX - number, b"h" * RUN_HASH_BYTES) for number in range(each))
    sealed = (b"k" * 32, b"s" * (SIGNATURE_BYTES + 1))
    name = f"{'n' * 64}/{'0' * 32}"
    mark = Mark(name, COUNT_MAX, b"h" * 32, COUNT_MAX, HLC_MAX, *sealed, end=COUNT_MAX, runs=told)
    raw = encode_preface(Preface((mark,) * ORIGINS_MAX, HLC_MAX, system=True))
    assert len(raw) < FRAME_BYTES_MAX * 0.95
