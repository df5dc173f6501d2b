"""Without faults the same nodes are quick and say nothing twice; times are virtual, so these are promises."""

from __future__ import annotations

import pytest

from entgldb.messages.errors import Reason
from tests.simulation.network import Weather
from tests.simulation.node import SimulatedNode
from tests.simulation.options import Options
from tests.simulation.run import Run

SYNC_INTERVAL = 2.0


def calm(lan: int, *, shape: str = "mesh", cloud: bool = False, live_push: bool = True) -> Run:
    """A cluster that has started and found itself."""
    options = Options(lan, cloud, shape, 0.0, 0.0, 0.0, 0.001, 10, 0.2, 1, wild_clocks=False)
    run = Run(1, options=options)
    run.network.weather = Weather(latency=0.001)
    for node in run.nodes:
        node.live_push = live_push
        node.start()
    run.world.run(8.0)
    while why := run.unsettled():
        run.world.run(0.5)
        assert run.world.time < 30, why
    return run


def seconds_until_everywhere(run: Run, key: str, nodes: list[SimulatedNode]) -> float:
    """Write on the first node; how long until all others show it."""
    began = run.world.time
    run.clients[0].write_now(key)

    def everywhere() -> bool:
        return all(node.store.known("users", key) for node in nodes)

    run.world.run(20.0, everywhere)
    assert everywhere()
    return run.world.time - began


@pytest.mark.parametrize("shape", ["mesh", "line"])
def test_a_write_is_everywhere_at_once(shape: str) -> None:
    run = calm(4, shape=shape)
    # in a line every relay waits until its neighbour has said what it has
    assert seconds_until_everywhere(run, "live", run.nodes) < (0.01 if shape == "mesh" else 0.25)
    assert run.finish().violations == []


def test_without_any_push_a_write_is_everywhere_within_two_intervals() -> None:
    run = calm(3, live_push=False)
    for number in range(5):
        assert seconds_until_everywhere(run, f"slow{number}", run.nodes) <= 2 * SYNC_INTERVAL
    assert run.finish().violations == []


def test_in_a_calm_mesh_hardly_anything_is_sent_twice() -> None:
    run = calm(4)
    before = sum(node.all_counts()[Reason.DUPLICATE.value] for node in run.nodes)
    for number in range(50):
        run.clients[number % 4].write_now(f"k{number}")
        run.world.run(0.3)
    run.world.run(5.0)
    after = sum(node.all_counts()[Reason.DUPLICATE.value] for node in run.nodes)
    # only where a vector is compared in the very millisecond in which an entry is on its way
    assert after - before <= 5, "of 150 entries delivered"
    assert len(run.acks.writes) == 50
    assert run.finish().violations == []


def test_a_dead_gateway_is_replaced_within_five_seconds() -> None:
    run = calm(3, cloud=True)
    run.lan[0].crash(noticed=False)
    began = run.world.time
    survivors, run.lan = run.lan[1:], run.lan[1:]
    while run.unsettled():
        run.world.run(0.1)
        assert run.world.time - began <= 5.0
    assert [node.name for node in survivors] == ["lan-2", "lan-3"]
