"""Without faults the same nodes are quick and say nothing twice; times are virtual, so these are promises."""

from __future__ import annotations

import msgpack
import pytest

from entgldb.launch.testing.network import Weather
from entgldb.messages.client import Commit, RequestId, Write
from entgldb.messages.codec import encode
from entgldb.messages.errors import Reason
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.local.actors import FrameIn, LinkUp
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.wire import Hello
from tests.simulation.events.clients import CLOUD
from tests.simulation.run import Run, initial_peer
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import Options
from tests.support.fake_context import FakeAsker

SYNC_INTERVAL = 2.0


def calm(lan: int, *, shape: str = "mesh", cloud: bool = False, live_push: bool = True) -> Run:
    """A cluster that has started and found itself."""
    run = Run(1, options=quiet(lan, shape=shape, cloud=cloud))
    for node in run.nodes:
        node.live_push = live_push
    start(run)
    return run


def quiet(lan: int, *, shape: str = "mesh", cloud: bool = False) -> Options:
    """A fast network that does nothing to frames."""
    return Options(lan, cloud, shape, 0.0, 0.0, 0.0, 0.001, 10, 0.2, 1, wild_clocks=False)


def start(run: Run, weather: Weather | None = None) -> None:
    """Start all nodes and wait until they have settled."""
    run.network.weather = weather or Weather(latency=0.001)
    for node in run.nodes:
        node.start()
    run.world.run(8.0)
    while why := run.unsettled():
        run.world.run(0.5)
        assert run.world.time < 60, why


def settled_again(run: Run, seconds: float) -> None:
    """Within so many seconds all is calm."""
    began = run.world.time
    while why := run.unsettled():
        run.world.run(0.5)
        assert run.world.time - began < seconds, why


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


def test_initial_peers_are_put_once_and_what_was_removed_stays_removed() -> None:
    run = Run(1, options=quiet(3, cloud=True))
    assert run.cloud is not None
    for node in run.lan:
        node.initial_peers = (initial_peer(run.cloud),)
    start(run)
    # a second or so after the first session all have it, and it was not put over and over
    puts = [one for one in run.watch.union.values() if one.place == (REMOTE_PEERS, CLOUD)]
    assert 1 <= len(puts) <= 3
    run.clients[2].remove_peer()
    run.world.run(3.0)
    for node in run.lan:
        node.crash()
    for node in run.lan:
        node.start()
    run.world.run(30.0)
    assert [node.store.get(REMOTE_PEERS, CLOUD) for node in run.lan] == [None, None, None]
    assert [end for end in run.network.ends.values() if end.actor == "gateway"] == []
    # the cloud itself cannot hear of it: the link closed at once
    assert run.world.violations == []


def test_a_dead_gateway_is_replaced_within_five_seconds() -> None:
    run = calm(3, cloud=True)
    run.lan[0].crash(noticed=False)
    began = run.world.time
    survivors, run.lan = run.lan[1:], run.lan[1:]
    while run.unsettled():
        run.world.run(0.1)
        assert run.world.time - began <= 5.0
    assert [node.name for node in survivors] == ["lan-2", "lan-3"]


@pytest.mark.parametrize(("count", "size"), [(17, GROUP_BYTES_MAX // 17), (GROUP_ENTRIES_MAX, 40)])
def test_the_largest_transactions_are_one_group_on_every_node(count: int, size: int) -> None:
    run = calm(3, cloud=True)
    fill = b"x" * (size - 20)
    writes = tuple(Write("large", f"k{n}", b'{"n":"%05d","t":"%s"}' % (n, fill)) for n in range(count))
    asker = FakeAsker()
    seen: dict[str, set[int]] = {node.name: set() for node in run.nodes}
    written = dict.fromkeys(seen, -1)

    def everywhere() -> bool:
        for node in run.nodes:
            before, written[node.name] = written[node.name], node.store.connection.total_changes
            if written[node.name] == before:
                continue  # counted already
            (found,) = node.store.connection.execute(
                "SELECT count(*) FROM _entgldb_documents WHERE collection = 'large'"
            ).fetchone()
            seen[node.name].add(found)
        return all(count in found for found in seen.values())

    assert not everywhere()
    assert run.lan[0].ask("store", Commit(RequestId(b"l" * 16, 1), writes), asker)
    run.world.run(60.0, everywhere)
    assert seen == {node.name: {0, count} for node in run.nodes}
    assert len(asker.answers) == 1
    assert run.finish().violations == []


def test_what_a_later_release_may_say_is_counted_and_ignored() -> None:
    run = Run(1, options=quiet(2))
    node, link = run.lan[1], 1_000_000
    node.start()
    run.world.run(2.0)
    node.deliver("sync", LinkUp(link, True, "10.0.0.2:7001", "lan-1"))
    hello = Hello(1, 1, "lan-1", f"lan-1/{1:032x}", node.cluster, (), node.clock.now_ms(), "lan")
    future = [*msgpack.unpackb(encode(hello)), "a field of the future"]
    node.deliver("sync", FrameIn(link, msgpack.packb(future)))
    node.deliver("sync", FrameIn(link, msgpack.packb([39, 0, "a message of the future"])))
    run.world.run(0.5)
    counts = node.all_counts()
    assert (counts["trailing-field"], counts["unknown-message"], counts["malformed"]) == (1, 1, 0)


def test_a_delete_is_forgotten_on_nodes_and_cloud_alike_once_who_is_away_has_it_too() -> None:
    run = calm(3, cloud=True)
    away, others = run.lan[2], [node for node in run.nodes if node is not run.lan[2]]
    seconds_until_everywhere(run, "k1", run.nodes)
    away.crash()
    for node in others:
        node.forget_after(0.0005, 0.01)
    run.clients[0].delete_now("k1")

    def forgotten() -> list[bool]:
        return [not node.store.known("users", "k1") for node in run.nodes]

    run.world.run(200.0)
    assert all(node.log.floors() for node in others), "it counts as absent"
    assert not any(forgotten())
    away.start()
    away.forget_after(0.0005, 0.01)
    run.world.run(200.0, lambda: all(forgotten()))
    assert all(forgotten())
