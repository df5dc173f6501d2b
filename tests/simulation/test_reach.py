"""A gateway that does not reach the cloud while others do."""

from __future__ import annotations

from tests.simulation.run import Run
from tests.simulation.test_calm import calm, seconds_until_everywhere


def holder(run: Run) -> str:
    """The one gateway, if the cloud link is open on it."""
    return "" if run._cloud_unsettled() else str((run._ask(run.lan[0], "election") or {})["gateway"])


def within(run: Run, name: str, seconds: float) -> None:
    # to ask takes a moment, too: it is asked once each time
    end = run.world.time + seconds
    while holder(run) != name:
        assert run.world.time < end
        run.world.run(0.5)


def test_a_gateway_without_a_way_to_the_cloud_yields_once_and_leads_again_when_it_has_one() -> None:
    run = calm(3, cloud=True)
    assert (run.cloud is not None, holder(run)) == (True, "lan-1")
    ways = {("lan-1", run.nodes[-1].name), (run.nodes[-1].name, "lan-1")}
    run.network.cuts |= ways
    within(run, "lan-2", 90.0)
    seconds_until_everywhere(run, "by another way", run.nodes)
    epoch = (run._ask(run.lan[0], "election") or {})["epoch"]
    run.world.run(300.0)
    assert holder(run) == "lan-2"
    assert (run._ask(run.lan[0], "election") or {})["epoch"] == epoch
    run.network.cuts -= ways
    within(run, "lan-1", 120.0)
    assert run.finish().violations == []


def test_a_cloud_that_nobody_reaches_moves_no_gateway() -> None:
    run = calm(3, cloud=True)
    assert run.cloud is not None
    epoch = (run._ask(run.lan[0], "election") or {})["epoch"]
    run.cloud.crash()
    run.world.run(300.0)
    assert (run._ask(run.lan[2], "election") or {})["epoch"] == epoch
    for node in run.lan:
        told = run._ask(node, "election") or {}
        assert (told["gateway"], told["troubles"]) == ("lan-1", {run.cloud.name: "unreachable"})
    run.cloud.start()
    within(run, "lan-1", 90.0)
    assert run.finish().violations == []
