"""Mistakes that hardly any seed meets, each on a history that was made for it, without any fault beside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from entgldb.actors.behaviour import Life
from entgldb.launch.testing.network import Weather
from entgldb.messages.client import Write
from tests.simulation.away import ABSENCE_HOURS, RETENTION_HOURS
from tests.simulation.events.clients import PROFILES
from tests.simulation.mutants import keeping, replication
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, quiet, settled_again, start
from tests.simulation.test_slow_lines import BANDWIDTH, LARGE, body


def written(run: Run, number: int, *writes: Write) -> None:
    """A client writes, and has its answer."""
    client = run.clients[number]
    client._request(writes)
    run.world.run(5.0, lambda: not client.waiting)
    assert not client.waiting


def a_long_step() -> Run:
    """A store is in a step that it has named, for longer than others may stand still."""
    run = calm(2)
    host = run.nodes[0].host
    assert host is not None
    assert host.hold("store", 12.0, Life(-1, "a commit", "S"))
    run.world.run(15.0)
    return run


def one_field_written_twice_at_one_moment() -> Run:
    """Two nodes that are cut off write one field with equal clocks."""
    # clocks of which each reading is good for a while
    run = Run(1, options=replace(quiet(2), grain_ms=1_000))
    start(run)
    run.clients[0].set_rule("merge")
    run.world.run(2.0)
    written(run, 0, Write(PROFILES, "k", body(0, 1)))
    settled_again(run, 10.0)
    run.network.cuts |= {("lan-1", "lan-2"), ("lan-2", "lan-1")}
    run.world.run(2.0)
    for number in range(2):
        run.clients[number]._request((Write(PROFILES, "k", body(1 + number, 1)),))
    run.world.run(2.0)
    stamps = {
        node.store.connection.execute("SELECT max(hlc) FROM _entgldb_oplog").fetchone() for node in run.nodes
    }
    assert len(stamps) == 1
    run.network.cuts.clear()
    return run


def a_delete_before_an_older_put() -> Run:
    """All have a delete, while a put that is older waits behind a large document on a slow line."""
    run = Run(1, options=quiet(3))
    for node in run.nodes:
        node.forget_after(RETENTION_HOURS, ABSENCE_HOURS)
    start(run)
    written(run, 0, Write("users", "k", body(0, 1)))
    settled_again(run, 10.0)
    run.network.weather = Weather(latency=0.001, bandwidth=BANDWIDTH)
    written(run, 2, Write("users", "large", body(1, LARGE)))
    written(run, 2, Write("users", "k", body(2, 1)))
    run.world.run(0.1)
    written(run, 1, Write("users", "k", None))
    run.world.run(3.0 * LARGE / BANDWIDTH)
    assert run.nodes[0].store.known("users", "large")
    return run


def a_transaction_that_two_bring() -> Run:
    """One peer has brought all of it while the other one, which began later, is in the midst of it."""
    run = calm(3)
    ways = {(one, other) for one in run.nodes for other in run.nodes if run.nodes[1] in (one, other)}
    run.network.cuts |= {(one.name, other.name) for one, other in ways}
    run.world.run(10.0)
    written(run, 0, *(Write("users", f"large{number}", body(number, 4_000)) for number in range(40)))
    settled = run.nodes[0].log.vector()
    run.world.run(5.0, lambda: run.nodes[2].log.vector() == settled)
    run.network.weather = Weather(latency=0.001, bandwidth=BANDWIDTH)
    first = {("lan-3", "lan-2"), ("lan-2", "lan-3")}
    run.network.cuts -= first
    run.world.run(3.0)
    run.network.cuts.clear()
    run.world.run(60.0, lambda: run.nodes[1].log.vector() == settled)
    run.network.cuts |= first
    written(run, 0, Write("users", "last", body(50, 10)))
    run.world.run(5.0)
    run.network.cuts.clear()
    return run


HISTORIES = {
    a_long_step: replication.long_step_ended,
    one_field_written_twice_at_one_moment: keeping.fields_without_origin,
    a_delete_before_an_older_put: keeping.join_skipped,
    a_transaction_that_two_bring: replication.brought_entries_wait,
}


def kept(history: Callable[[], Run]) -> list[str]:
    run = history()
    settled_again(run, 60.0)
    return run.finish().violations


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_every_promise_is_kept(history: Callable[[], Run]) -> None:
    assert kept(history) == []


@pytest.mark.parametrize(("history", "mistake"), HISTORIES.items(), ids=lambda one: one.__name__)
def test_the_mistake_is_noticed(
    history: Callable[[], Run], mistake: Callable[[], AbstractContextManager[None]]
) -> None:
    with mistake():
        assert kept(history) != []
