"""Lines that carry little, on the virtual clock: all comes, nothing flaps, and each mend is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from entgldb.actors.line import Line, Pulse
from entgldb.actors.session.outbox import Outbox
from entgldb.launch.testing.network import Weather
from entgldb.messages.client import PutPeer, RequestId, Write
from tests.simulation.away import _forget
from tests.simulation.events import damage
from tests.simulation.events.clients import CLOUD
from tests.simulation.events.operators import Nobody
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, quiet, settled_again, start
from tests.simulation.world.node import SimulatedNode

BANDWIDTH, DELAY = 15_000.0, 2.0
LARGE = 150_000
SMALL, SMALL_BYTES = 60, 500
Patch = pytest.MonkeyPatch


def over_a_slow_line(delay: float, *, cloud: bool = False) -> Run:
    """The gateway writes a large document and many small ones; all have them soon, nothing else happens."""
    run = Run(1, options=quiet(3, cloud=cloud))
    start(run, Weather(latency=0.001, delay=delay, bandwidth=BANDWIDTH))
    run.world.run(30.0)
    before, counted = leaders(run), lost(run)
    assert before[0][0] == run.lan[0].name
    began = run.world.time
    bodies = [body(number, size) for number, size in enumerate((LARGE, *[SMALL_BYTES] * SMALL))]
    for number, one in enumerate(bodies):
        run.clients[0]._request((Write("users", f"slow{number}", one),))
        run.world.run(1.0, lambda: not run.clients[0].waiting)
    line = sum(len(one) + 400 for one in bodies) / BANDWIDTH

    def everywhere() -> bool:
        return all(node.store.known("users", f"slow{SMALL}") for node in run.nodes)

    run.world.run(line / 0.8 + 6 * delay + 5, everywhere)
    assert everywhere(), f"not there {run.world.time - began:.0f} s after, of {line:.0f} s of the line"
    run.world.run(10.0)
    assert lost(run) == counted
    assert leaders(run) == before, "another gateway was elected"
    settled_again(run, 60.0)
    return run


def body(number: int, size: int) -> bytes:
    """No two are equal: the checker tells writes apart by ``uid``."""
    return b'{"uid": "slow%d", "t": "%s"}' % (number, b"x" * size)


def lost(run: Run) -> list[tuple[int, int]]:
    """The heartbeats and gaps that each node has counted as lost."""
    return [(counts["heartbeat-lost"], counts["gap"]) for counts in (n.all_counts() for n in run.nodes)]


def leaders(run: Run) -> list[tuple[object, object]]:
    """Gateway and epoch, as each node of the LAN sees them."""
    reports = [run._ask(node, "election") for node in run.lan]
    return [(report["gateway"], report["epoch"]) for report in reports if report]


@pytest.mark.parametrize("cloud", [False, True])
@pytest.mark.parametrize("delay", [0.0, DELAY])
def test_much_comes_over_a_slow_line_and_nothing_flaps(delay: float, cloud: bool) -> None:
    assert over_a_slow_line(delay, cloud=cloud).finish().violations == []


def test_a_frame_that_takes_longer_than_silence_may_last_is_life(monkeypatch: Patch) -> None:
    """Where it comes in one piece."""
    no_parts(monkeypatch)
    run = Run(1, options=quiet(2))
    start(run, Weather(delay=DELAY, bandwidth=BANDWIDTH))
    before = lost(run)
    run.clients[0]._request((Write("users", "large", body(0, LARGE)),))
    run.world.run(60.0, lambda: run.nodes[1].store.known("users", "large"))
    assert run.nodes[1].store.known("users", "large")
    assert lost(run) == before


def test_a_snapshot_comes_over_a_slow_line_in_the_time_of_its_bytes() -> None:
    """The second node joins when the log of the first does not reach back any more."""
    run = Run(1, options=quiet(2))
    giver, taker = run.nodes
    giver.start()
    for number in range(30):
        run.clients[0]._request((Write("users", f"large{number}", body(number, 10_000)),))
        run.world.run(1.0, lambda: not run.clients[0].waiting)
    _forget(giver, tombstones=False)
    run.network.weather = Weather(latency=0.001, delay=DELAY, bandwidth=BANDWIDTH)
    taker.start()
    run.world.run(
        30 * 10_000 / BANDWIDTH / 0.8 + 10 * DELAY + 15, lambda: taker.log.vector() == giver.log.vector()
    )
    assert taker.log.vector() == giver.log.vector(), f"not there at {run.world.time:.0f} s"
    assert taker.all_counts()["gap"] == 0
    assert lost(run)[0][0] == lost(run)[1][0] == 0


def test_large_rows_that_are_damaged_are_mended_in_the_time_of_their_bytes() -> None:
    run = Run(damage.DAMAGED_SEEDS, options=replace(quiet(3), bandwidth=BANDWIDTH))
    start(run)
    for number in range(2):
        run.clients[0]._request((Write("users", f"large{number}", body(number, 5 * LARGE)),))
        run.world.run(1.0, lambda: not run.clients[0].waiting)
    settled_again(run, 60.0)
    run.network.weather = run.options.calm()
    damage.at_rest(run.world, run.nodes, BANDWIDTH)
    assert run.world.faults["damage"] == run.world.reached["row mended"] > 0
    assert run.finish().violations == []


def bytes_are_no_life(patch: Patch) -> None:
    """Whole frames alone count."""
    patch.setattr(Pulse, "silence", lambda self, now: max(0.0, now - self._at))


def all_at_once(patch: Patch) -> None:
    """The writer is handed all there is."""
    patch.setattr(Line, "free", True)


def no_parts(patch: Patch) -> None:
    """A large document goes in one piece."""
    patch.setattr(Line, "cuts", lambda self, size: False)


def what_waits_has_left(patch: Patch) -> None:
    """Heartbeats count batches that are still to be handed over."""
    patch.setattr(Outbox, "handed", property(lambda self: self.sent))


def test_the_mutant_is_caught_bytes_are_no_life(monkeypatch: Patch) -> None:
    bytes_are_no_life(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_frame_that_takes_longer_than_silence_may_last_is_life(monkeypatch)


@pytest.mark.parametrize("mutant", [all_at_once, no_parts, what_waits_has_left])
def test_a_mutant_is_caught(monkeypatch: Patch, mutant: Callable[[Patch], None]) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        over_a_slow_line(DELAY)


def test_a_cloud_peer_with_a_limit_gets_so_much_a_second_and_the_lan_all_at_once() -> None:
    limit = 10_000
    run = calm(3, cloud=True)
    assert run.cloud is not None
    client = run.clients[0]
    order = PutPeer(RequestId(b"o" * 16, 1), False, CLOUD, max_rate=limit)
    assert run.lan[2].ask("store", order, Nobody())
    run.world.run(10.0)
    rows = (run._ask(run.lan[0], "gateway") or {})["links"]
    assert [(row["state"], row["max_rate"]) for row in cast(Any, rows)] == [("connected", limit)]
    began = run.world.time
    client._request(tuple(Write("users", f"limited{n}", body(n, SMALL_BYTES)) for n in range(200)))
    total = 200 * SMALL_BYTES

    def has(node: SimulatedNode) -> bool:
        return bool(node.store.known("users", "limited199"))

    run.world.run(2.0, lambda: all(has(node) for node in run.lan))
    assert all(has(node) for node in run.lan)
    assert not has(run.cloud)
    run.world.run(60.0, lambda: has(cast(Any, run.cloud)))
    took = run.world.time - began
    assert (total - limit) / limit - 2 < took < 3 * total / limit
    settled_again(run, 60.0)
    assert run.finish().violations == []


def test_a_cloud_peer_with_a_limit_gets_a_snapshot_within_it_and_nothing_flaps() -> None:
    limit, number = 10_000, 30
    run = calm(2, cloud=True)
    cloud = cast(SimulatedNode, run.cloud)
    assert run.lan[1].ask("store", PutPeer(RequestId(b"o" * 16, 1), False, CLOUD, max_rate=limit), Nobody())
    run.world.run(10.0)
    cloud.crash()
    for n in range(number):
        run.clients[0]._request((Write("users", f"large{n}", body(n, limit)),))
        run.world.run(1.0, lambda: not run.clients[0].waiting)
    run.world.run(10.0)
    for node in run.lan:
        _forget(node, tombstones=False)
    before, counted = leaders(run), lost(run)
    cloud.start()
    began = run.world.time
    run.world.run(3.0 * number, lambda: cloud.log.vector() == run.lan[0].log.vector())
    assert cloud.log.vector() == run.lan[0].log.vector()
    assert run.world.time - began > number - 2, "so much may come at once"
    assert leaders(run) == before
    assert lost(run)[: len(run.lan)] == counted[: len(run.lan)]
    settled_again(run, 60.0)
