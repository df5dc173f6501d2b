"""Links that an operator has paused: nothing is lost, and each pause ends, whatever the clocks show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from entgldb.messages.administration import PauseSync
from tests.simulation.events.operators import Nobody
from tests.simulation.run import Run, options_of, run
from tests.simulation.test_calm import calm, seconds_until_everywhere, settled_again
from tests.simulation.test_reach import holder, within
from tests.simulation.test_simulation import check
from tests.simulation.world.node import SimulatedNode

SEEDS = (2, 3, 4)


def order(node: SimulatedNode, what: str, *, paused: bool = True, seconds: float = 0.0) -> None:
    assert node.ask("store", PauseSync(what, paused, seconds), Nobody())


def led_by(one: Run, node: SimulatedNode) -> tuple[object, object]:
    """The gateway that a node follows, and its epoch."""
    told = one._ask(node, "election") or {}
    return told["gateway"], told["epoch"]


def codes(one: Run, node: SimulatedNode) -> set[tuple[str, str]]:
    alarms = (one._ask(node, "node") or {})["alarms"]
    assert isinstance(alarms, list)
    return {(alarm["code"], alarm["subject"]) for alarm in alarms}


def test_a_gateway_whose_cloud_links_are_paused_hands_over_and_takes_them_back() -> None:
    one = calm(3, cloud=True)
    assert holder(one) == "lan-1"
    began = one.world.time
    order(one.lan[0], "cloud")
    within(one, "lan-2", 10.0)
    assert one.world.time - began < 10.0
    assert codes(one, one.lan[0]) == {("paused", "cloud")}
    assert codes(one, one.lan[1]) == set()
    seconds_until_everywhere(one, "by another way", one.nodes)
    one.lan[0].crash()
    one.world.run(1.0)
    one.lan[0].start()
    one.world.run(60.0)
    assert holder(one) == "lan-2"
    assert codes(one, one.lan[0]) == {("paused", "cloud")}
    order(one.lan[0], "cloud", paused=False)
    within(one, "lan-1", 120.0)
    assert codes(one, one.lan[0]) == set()
    assert one.finish().violations == []


def test_a_pause_ends_by_itself_although_the_clock_is_set_back_and_what_was_written_arrives() -> None:
    one = calm(3)
    order(one.lan[2], "lan", seconds=90.0)
    one.world.run(5.0)
    assert (one._ask(one.lan[2], "sync") or {})["peers"] == []
    one.clients[2].write_now("behind the pause")
    one.clients[0].write_now("before it")
    one.lan[2].clock.offset_ms -= 50_000
    one.world.run(80.0)
    assert (one._ask(one.lan[2], "sync") or {})["paused"]
    one.lan[2].clock.offset_ms += 50_000
    one.world.run(6.0)
    assert not (one._ask(one.lan[2], "sync") or {})["paused"]
    settled_again(one, 10.0)
    assert one.finish().violations == []


def test_a_node_that_was_alone_leads_until_the_best_one_takes_over() -> None:
    """By the higher epoch, and then by the better rank: the office changes twice, and no further."""
    one = calm(3, cloud=True)
    order(one.lan[2], "lan")
    one.world.run(10.0)
    assert [led_by(one, node) for node in one.lan] == [("lan-1", 1), ("lan-1", 1), ("lan-3", 2)]
    one.clients[2].write_now("alone")
    order(one.lan[2], "lan", paused=False)
    seen: list[tuple[object, object]] = []
    for _ in range(300):
        one.world.run(0.1)
        if led_by(one, one.lan[0]) not in seen[-1:]:
            seen.append(led_by(one, one.lan[0]))
    assert seen == [("lan-3", 2), ("lan-1", 3)]
    assert {led_by(one, node) for node in one.lan} == {("lan-1", 3)}
    settled_again(one, 10.0)
    assert one.finish().violations == []


def test_seeds_in_which_operators_pause_links_keep_every_promise() -> None:
    faults: Counter[str] = Counter()
    for seed in SEEDS:
        result = run(seed, options=replace(options_of(seed, Random(seed)), pauses=True))
        check(result)
        faults += result.faults
    assert faults["pause lan"] >= 5
    assert faults["pause cloud"] >= 5
