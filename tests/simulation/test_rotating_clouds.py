"""Two keys of the cluster are made at once: clouds, which hear of one of them alone, miss nothing."""

from __future__ import annotations

from entgldb.messages.administration import ResetClock, RotateKey
from entgldb.messages.client import RequestId
from tests.simulation.events.faults import Nobody
from tests.simulation.run import Run
from tests.simulation.test_rotating import AHEAD_MS, certified_with_a_cloud
from tests.simulation.world.node import SimulatedNode


def leads(run: Run, node: SimulatedNode) -> bool:
    return (run._ask(node, "election") or {})["is_gateway"] is True


def test_clouds_believe_the_log_of_a_maker_of_another_key_at_once() -> None:
    """It has begun the log before it heard of the key that counts. The gateway has that one, and passes the
    log on."""
    run = certified_with_a_cloud()
    assert run.cloud is not None
    gateway = next(node for node in run.lan if leads(run, node))
    maker, other = (node for node in run.lan if node is not gateway)
    ways = {(maker.name, node.name) for node in run.nodes}
    run.network.cuts = ways | {(two, one) for one, two in ways}
    maker.ask("store", RotateKey(RequestId(bytes(16), 1)), Nobody())
    run.world.run(10.0)
    client = run.clients[run.nodes.index(maker)]
    maker.clock.offset_ms += AHEAD_MS
    client.write_now("early")
    run.world.run(2.0)
    maker.clock.offset_ms -= AHEAD_MS
    before = maker.store.origin
    maker.ask("store", ResetClock(RequestId(bytes(16), 2)), Nobody())
    run.world.run(2.0)
    assert maker.store.origin != before
    client.write_now("late")
    other.ask("store", RotateKey(RequestId(bytes(16), 3)), Nobody())
    run.world.run(2.0)
    run.network.cuts = {way for way in run.network.cuts if gateway.name not in way}
    run.world.run(10.0)
    run.network.cuts = set()
    run.world.run(60.0)
    for node in run.lan:
        rotation = node.log.rotation()
        assert rotation is not None
        assert (rotation.by, node.store.known("users", "late")) == (other.name, True)
    assert leads(run, gateway)
    assert run.cloud.store.known("users", "late")
    run.close()
