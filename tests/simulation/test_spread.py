"""Who waits for others to have a write is answered when they have it: cuts, restarts, disks that go back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from entgldb.messages.administration import AwaitSpread, HealOrigin
from entgldb.messages.client import Report, RequestId
from tests.simulation.run import Run
from tests.simulation.test_calm import calm
from tests.simulation.test_own_log import EVERYTHING, Answered, rolled_back
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode

PATIENCE_SECONDS = 60.0


def wait(node: SimulatedNode, need: str, seconds: float = 600.0) -> Answered:
    """Somebody waits for others to have the newest entry that ``node`` has written."""
    asker = Answered()
    asked = {node.origin: node.store.vector()[node.origin][0]}
    assert node.ask("sync", AwaitSpread(need, asked, seconds), asker)
    return asker


def body(asker: Answered) -> Any:
    (answer,) = asker.messages
    assert isinstance(answer, Report)
    return answer.body


def durable(run: Run, node: SimulatedNode) -> set[str]:
    """The nodes that have it, as ``node`` says now."""
    asker = wait(node, "", 0.0)
    run.world.run(0.05, lambda: bool(asker.messages))
    return set(body(asker)["durable"])


def until(run: Run, what: Callable[[], bool]) -> None:
    began = run.world.time
    while not what():
        run.world.run(0.05)
        assert run.world.time - began < PATIENCE_SECONDS


def holders(run: Run, key: str) -> set[str]:
    return {node.name for node in run.lan[1:] if node.store.known("users", key)}


def written(run: Run, key: str) -> SimulatedNode:
    """The first node has written it."""
    run.clients[0].write_now(key)
    run.world.run(1.0, lambda: run.lan[0].store.known("users", key))
    return run.lan[0]


def test_a_cut_that_heals_answers_who_waits_and_not_before() -> None:
    run = calm(3)
    run.network.cuts |= EVERYTHING
    run.world.run(1.0)
    asker = wait(written(run, "k"), "all")
    run.world.run(5.0)
    assert asker.messages == []
    run.network.cuts.clear()
    run.world.run(PATIENCE_SECONDS, lambda: bool(asker.messages))
    assert body(asker) == {"durable": ["lan-2", "lan-3"], "missing": [], "reached": True}
    assert holders(run, "k") == {"lan-2", "lan-3"}
    assert run.finish().violations == []


@pytest.mark.parametrize("noticed", [True, False])
def test_a_member_that_was_down_counts_once_it_has_it(*, noticed: bool) -> None:
    run = calm(3)
    run.lan[1].crash(noticed=noticed)
    one = written(run, "k")
    asker = wait(one, "nodes:lan-2")
    run.world.run(5.0)
    assert asker.messages == []
    assert durable(run, one) == {"lan-3"}
    run.lan[1].start()
    run.world.run(PATIENCE_SECONDS, lambda: bool(asker.messages))
    assert body(asker)["reached"]
    assert holders(run, "k") == {"lan-2", "lan-3"}
    assert run.finish().violations == []


@pytest.mark.parametrize("told", [True, False])
def test_a_member_whose_disk_went_back_counts_no_more_once_it_has_spoken(*, told: bool) -> None:
    run = calm(3)
    two, disks = run.lan[1], Disks(run.world, run.watch)
    disks.copy(two)
    one = written(run, "k")
    until(run, lambda: durable(run, one) == {"lan-2", "lan-3"})
    two.crash()
    disks.put_back(two, told=told)
    two.start()
    until(run, lambda: durable(run, one) == {"lan-3"})
    assert not two.store.known("users", "k")
    until(run, lambda: durable(run, one) == {"lan-2", "lan-3"})
    assert two.store.known("users", "k")


def test_an_entry_of_the_same_number_in_another_branch_is_not_taken_for_it() -> None:
    run = calm(3)
    one, old = run.lan[0], run.lan[0].origin
    rolled_back(run, one)
    run.network.cuts |= EVERYTHING
    run.world.run(1.0)
    asker = wait(written(run, "unseen"), "peers:1")
    assert run.lan[1].store.vector()[old][0] == one.store.vector()[old][0]
    run.network.cuts.clear()
    run.world.run(10.0)
    assert all(node.store.status()["quarantined_origins"] == [old] for node in run.lan)
    assert (asker.messages, holders(run, "unseen")) == ([], set())
    assert one.ask("store", HealOrigin(RequestId(b"h" * 16, 1), old, "ours"), Answered())
    run.world.run(PATIENCE_SECONDS, lambda: bool(asker.messages))
    assert body(asker)["reached"]
    assert set() < set(body(asker)["durable"]) <= holders(run, "unseen")
