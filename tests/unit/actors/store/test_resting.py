"""Memory that writes have needed goes back once nothing has been written for a while."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from entgldb.actors.store.compacting import REST_SECONDS
from entgldb.messages import client
from entgldb.storage.store import Store
from tests.unit.actors.store.test_store_keeper import NOW, Bench


def test_a_store_rests_once_when_it_has_not_been_written_to_for_a_while() -> None:
    bench, rests = Bench(), list[float]()
    bench.ctx.behaviour = bench.keeper
    bench.store.rest = lambda: rests.append(bench.ctx.monotonic())  # type: ignore[method-assign]  # counted
    for number in range(5):
        bench.ask(bench.put(f"k{number}"))
        bench.ctx.run(REST_SECONDS / 2)
    assert rests == []
    bench.ctx.run(REST_SECONDS * 5)
    assert rests == [REST_SECONDS * 3]
    bench.ask(bench.put("again"), bench.put("and again"))
    bench.ctx.run(REST_SECONDS * 5)
    assert len(rests) == 2


def test_reads_and_writes_go_on_after_a_rest(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "n1", NOW)) as store:
        for number in range(3):
            with store.group():
                store.write(client.RequestId(b"c" * 16, number + 1), [client.Write("c", "k", b"{}")], NOW)
            store.rest()
        assert store.size() == (1, 3)
