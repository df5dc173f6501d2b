"""A log has one writer: roll-backs that only peers can notice, and two nodes that write one log."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from entgldb.messages.administration import HealOrigin
from entgldb.messages.client import CommitDone, RequestId
from entgldb.messages.errors import Reason
from entgldb.messages.model import Vector
from entgldb.messages.schema import Message
from entgldb.storage.log.apply import Applier, Incoming
from entgldb.storage.recovery.check import Checkup
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, quiet, seconds_until_everywhere, start
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode

EVERYTHING = {("lan-1", "lan-2"), ("lan-2", "lan-1"), ("lan-1", "lan-3"), ("lan-3", "lan-1")}


class Answered:
    """Keeps what it is answered."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def answer(self, message: Message) -> None:
        self.messages.append(message)


def rolled_back(run: Run, node: SimulatedNode, *, told: bool = False, key: str = "lost") -> None:
    """One write is on the disk that comes back, one is only with the others."""
    disks = Disks(run.world, run.watch)
    seconds_until_everywhere(run, "kept", run.nodes)
    disks.copy(node)
    seconds_until_everywhere(run, key, run.nodes)
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


def forked(run: Run) -> str:
    """lan-1 has gone back and has written unseen: all know that its old log has two branches; its name."""
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
    return old


def shown(node: SimulatedNode) -> tuple[object, object]:
    """Documents, and conflicts by body."""
    documents = node.store.connection.execute(
        "SELECT collection, key, body FROM _entgldb_documents ORDER BY 1, 2"
    ).fetchall()
    conflicts = node.store.connection.execute(
        "SELECT collection, key, body FROM _entgldb_conflicts ORDER BY 1, 2, 3"
    ).fetchall()
    return documents, conflicts


def test_a_writer_that_went_back_and_wrote_unseen_is_quarantined_and_goes_on_as_another() -> None:
    run = calm(3)
    forked(run)
    one = run.lan[0]
    # both branches end there; what anybody writes from now on is everywhere
    seconds_until_everywhere(run, "after", run.nodes)
    run.clients[1].write_now("other")
    run.world.run(2.0, lambda: all(node.store.known("users", "other") for node in run.lan))
    assert all(node.store.known("users", "other") for node in run.lan)
    alarms = one.store.status()["alarms"]
    assert isinstance(alarms, list)
    assert [alarm["code"] for alarm in alarms if isinstance(alarm, dict)] == ["fork"]


def test_a_fork_that_were_not_quarantined_would_be_noticed() -> None:
    """A mutant: two branches go on, and no two nodes agree."""

    def careless(self: Applier, one: Incoming) -> None:
        self.counts[Reason.DUPLICATE.value] += 1

    with patch.object(Applier, "_note_fork", careless), pytest.raises(AssertionError):
        forked(calm(3))


def test_a_node_that_knows_a_cloud_alone_learns_from_it_that_it_went_back_and_wrote_as_much() -> None:
    run = Run(5, options=quiet(1, cloud=True))
    one, cloud = run.lan[0], run.nodes[1]
    start(run)
    old = one.origin
    rolled_back(run, one)
    ways = {(one.name, cloud.name), (cloud.name, one.name)}
    run.network.cuts |= ways
    run.world.run(1.0)
    run.clients[0].write_now("unseen")
    run.world.run(1.0, lambda: one.store.known("users", "unseen"))
    assert one.log.vector()[old][0] == cloud.log.vector()[old][0]
    run.network.cuts -= ways
    run.world.run(30.0, lambda: one.origin != old)
    assert one.origin != old


@pytest.mark.parametrize("decider", [0, 1])
@pytest.mark.parametrize("keep", ["ours", "theirs"])
def test_after_heal_origin_all_are_equal_and_the_other_branch_is_not_lost(decider: int, keep: str) -> None:
    run = calm(3)
    old = forked(run)
    answer = Answered()
    run.lan[decider].ask("store", HealOrigin(RequestId(b"h" * 16, 1), old, keep), answer)
    run.world.run(20.0)
    assert [type(message) for message in answer.messages] == [CommitDone]
    assert run.unsettled() == ""
    for node in run.lan:
        assert node.store.status()["quarantined"] == 0
        assert node.store.status()["alarms"] == []
        assert shown(node) == shown(run.lan[0])
    # both are keys that the other branch never wrote: each stays as a document
    assert all(run.lan[0].store.get("users", key) is not None for key in ("kept", "lost", "unseen"))
    assert run.lan[0].log.vector() == run.lan[1].log.vector() == run.lan[2].log.vector()
    assert all(Checkup(node.store.connection).run(still=True) == [] for node in run.lan)


def test_a_branch_that_parts_far_before_the_entry_by_which_it_is_known_is_gone_back_on_within_seconds() -> (
    None
):
    lost = 8
    run = calm(3)
    one, old = run.lan[0], run.lan[0].origin
    disks = Disks(run.world, run.watch)
    seconds_until_everywhere(run, "kept", run.nodes)
    disks.copy(one)
    for number in range(lost):
        seconds_until_everywhere(run, f"lost{number}", run.nodes)
    run.world.run(1.0)
    one.crash()
    disks.put_back(one, told=False)
    one.start()
    run.network.cuts |= EVERYTHING
    run.world.run(1.0)
    for number in range(lost - 1):
        run.clients[0].write_now(f"unseen{number}")
        run.world.run(1.0)
    run.network.cuts.clear()
    run.world.run(8.0)
    run.lan[1].ask("store", HealOrigin(RequestId(b"h" * 16, 1), old, "ours"), Answered())
    began = run.world.time
    run.world.run(5.0 * lost, lambda: one.log.vector()[old] == run.lan[1].log.vector()[old])
    assert run.world.time - began < 2.0 * lost
    run.world.run(5.0)
    assert run.unsettled() == ""
    assert [shown(node) == shown(one) for node in run.lan] == [True] * 3
    keys = {f"{kind}{number}" for kind in ("lost", "unseen") for number in range(lost - 1)}
    assert all(one.store.get("users", key) is not None for key in keys)
    assert shown(one)[1] == []


def test_of_two_branches_that_wrote_one_key_one_is_the_document_and_one_the_conflict() -> None:
    run = calm(3)
    one, old = run.lan[0], run.lan[0].origin
    rolled_back(run, one, key="both")
    run.network.cuts |= EVERYTHING
    run.world.run(1.0)
    run.clients[0].write_now("both")
    run.world.run(1.0)
    unseen = one.store.get("users", "both")
    seen = run.lan[1].store.get("users", "both")
    run.network.cuts.clear()
    run.world.run(8.0)
    run.lan[1].ask("store", HealOrigin(RequestId(b"h" * 16, 1), old, "ours"), Answered())
    run.world.run(20.0)
    assert run.unsettled() == ""
    for node in run.lan:
        assert node.store.get("users", "both") == seen
        found = node.store.connection.execute("SELECT body FROM _entgldb_conflicts").fetchall()
        assert [body.encode() for (body,) in found] == [unseen]
