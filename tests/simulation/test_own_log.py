"""A log has one writer: roll-backs that only peers can notice, and two nodes that write one log."""

from __future__ import annotations

from entgldb.messages.model import Vector
from tests.simulation.disks import Disks
from tests.simulation.node import SimulatedNode
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, seconds_until_everywhere

EVERYTHING = {("lan-1", "lan-2"), ("lan-2", "lan-1"), ("lan-1", "lan-3"), ("lan-3", "lan-1")}


def rolled_back(run: Run, node: SimulatedNode, *, told: bool = False) -> None:
    """One write is on the disk that comes back, one is only with the others."""
    disks = Disks(run.world, run.watch)
    seconds_until_everywhere(run, "kept", run.nodes)
    disks.copy(node)
    seconds_until_everywhere(run, "lost", run.nodes)
    run.world.run(1.0)
    node.crash()
    disks.put_back(node, told=told)
    node.start()


def settled(run: Run) -> Vector:
    run.world.run(8.0)
    assert run.unsettled() == ""
    return run.lan[0].log.vector()


def test_what_peers_have_of_our_own_log_makes_a_new_writer_before_the_next_write() -> None:
    run = calm(3)
    one, old = run.lan[0], run.lan[0].origin
    rolled_back(run, one)
    before = run.lan[1].log.vector()[old]
    run.world.run(5.0, lambda: one.origin != old)
    seconds_until_everywhere(run, "after", run.nodes)
    vector = settled(run)
    assert {node.store.get("users", "lost") is not None for node in run.lan} == {True}
    assert vector[old] == before
    assert vector[one.origin][0] >= 1
    assert all(node.store.status()["quarantined"] == 0 for node in run.lan)
    assert run.finish().violations == []


def test_a_writer_that_went_back_and_wrote_unseen_is_quarantined_and_goes_on_as_another() -> None:
    run = calm(3)
    one, old = run.lan[0], run.lan[0].origin
    rolled_back(run, one)
    run.network.cuts |= EVERYTHING
    run.world.run(1.0)
    run.clients[0].write_now("unseen")
    run.world.run(1.0, lambda: one.store.known("users", "unseen"))
    run.network.cuts.clear()
    run.world.run(8.0)
    assert one.origin != old
    assert all(node.store.status()["quarantined_origins"] == [old] for node in run.lan)
    # both branches end there; what anybody writes from now on is everywhere
    seconds_until_everywhere(run, "after", run.nodes)
    run.clients[1].write_now("other")
    run.world.run(2.0, lambda: all(node.store.known("users", "other") for node in run.lan))
    assert all(node.store.known("users", "other") for node in run.lan)
    alarms = one.store.status()["alarms"]
    assert isinstance(alarms, list)
    assert [alarm["code"] for alarm in alarms if isinstance(alarm, dict)] == ["fork"]
