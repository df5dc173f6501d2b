"""Two clusters that know nothing of each other, and one cloud node between them."""

from __future__ import annotations

import pytest

from tests.simulation.events.clients import CLOUD, Acknowledged, Client
from tests.simulation.run import Run
from tests.simulation.test_calm import quiet, start


@pytest.mark.parametrize("shared", [False, True])
def test_a_second_cluster_gets_nothing_into_or_out_of_a_cloud_that_is_not_shared(shared: bool) -> None:
    run = Run(1, options=quiet(2, cloud=True))
    assert run.cloud is not None
    run.cloud.shared = shared
    start(run)
    stranger = run._node("lan-1", "lan", 9)
    stranger.word = "another simulated cluster"
    client = Client(run.world, stranger, Acknowledged(), keys=3, think=1.0)
    stranger.start()
    run.world.run(4.0)
    client.put_peer(run.cloud.address, add=True, enabled=True)
    run.world.run(1.0)
    client.write_now("theirs")
    run.clients[0].write_now("ours")
    run.world.run(20.0)
    assert run.cloud.store.known("users", "ours")
    assert run.cloud.store.known("users", "theirs") == shared
    assert stranger.store.known("users", "ours") == shared
    (link,) = (run._ask(stranger, "gateway") or {})["links"]  # type: ignore[misc]  # a list of rows
    assert (link["node_id"], link["reason"]) == (CLOUD, "" if shared else "other-cluster")
    told = (run._ask(run.cloud, "sync") or {})["alarms"]
    assert [alarm["code"] for alarm in told] == ([] if shared else ["other-cluster"])  # type: ignore[attr-defined]  # a list
