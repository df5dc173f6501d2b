"""A certificate says who is at the other end, whatever that one says."""

from __future__ import annotations

import pytest

from entgldb.messages.errors import Reason
from tests.simulation.events.clients import CLOUD
from tests.simulation.events.forgeries import Forgeries, believed
from tests.simulation.events.lies import Lies
from tests.simulation.run import Run, initial_peer
from tests.simulation.test_calm import calm, quiet, settled_again, start


def test_no_session_runs_under_a_name_that_was_not_certified() -> None:
    run = calm(3)
    lies = Lies(run.world, run.network, run.lan)
    lies.tell(run.lan[0], run.lan[2])
    run.world.run(5.0)
    assert run.world.violations == []
    assert all(node.all_counts()[Reason.WRONG_NODE.value] for node in run.lan[1:])
    lies.over = True
    lies.begin()
    settled_again(run, 90.0)
    assert run.finish().violations == []


@pytest.mark.parametrize("forger", ["lan-1", CLOUD])
def test_what_a_relay_forges_of_the_logs_of_others_is_believed_by_nobody(forger: str) -> None:
    run = Run(1, options=quiet(3, cloud=True))
    assert run.cloud is not None
    for node in run.lan:
        node.initial_peers = (initial_peer(run.cloud),)
    start(run)
    origins = {node.name: node.origin for node in run.nodes}
    forgeries = Forgeries(run.world, run.network, run.nodes)
    forgeries.tell(next(node for node in run.nodes if node.name == forger))
    for number in range(80):
        for client in run.clients:
            client.write_now(f"{number}")
        # a relay has nothing to tell unless somebody is cut off from the writer
        node = run.lan[number % len(run.lan)]
        run.network.cuts = {(node.name, other.name) for other in run.lan if other.name != forger}
        run.world.run(0.5)
    run.network.cuts = set()
    run.world.run(5.0)
    assert run.world.faults["forgery"] > 5
    assert {node.name: node.origin for node in run.nodes} == origins
    assert sum(node.all_counts()[Reason.FORK.value] for node in run.nodes) == 0
    forgeries.end()
    settled_again(run, 90.0)
    believed(run.world, run.nodes)
    assert run.finish().violations == []
