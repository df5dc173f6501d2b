"""Random cuts, kills, restarts, hangs and orders to stand down; then peace, and one gateway a component."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from entgldb.messages.client import StandDown
from entgldb.messages.local.actors import Fitness
from tests.unit.actors.election.election_net import Net

NAMES = ("a", "b", "c", "d", "e")


def trouble(net: Net, random: Random) -> None:
    """One random event."""
    one, two = random.sample(NAMES, 2)
    event = random.choice(("cut", "cut", "link", "link", "kill", "start", "hang", "wake", "stand", "fit"))
    alive = one in net.nodes and two in net.nodes
    linked = frozenset((one, two)) in net.links
    if event == "cut" and linked:
        net.cut(one, two)
    elif event == "link" and alive and not linked:
        net.link(one, two)
    elif event == "kill" and one in net.nodes and len(net.nodes) > 2:
        net.kill(one)
        net.stopped.discard(one)
    elif event == "start" and one not in net.nodes:
        net.add(one)
        for other in random.sample(sorted(net.nodes.keys() - {one}), random.randint(0, len(net.nodes) - 1)):
            net.link(one, other)
    elif event == "hang" and one in net.nodes:
        net.stopped.add(one)
    elif event == "wake":
        net.stopped.discard(one)
    elif event == "stand" and one in net.nodes:
        net.nodes[one].ctx.hand(StandDown(random.choice((0.0, 3.0, 8.0))))
    elif event == "fit" and one in net.nodes:
        resolvable = random.randint(0, 2)
        net.nodes[one].ctx.hand(Fitness(resolvable, reach=random.randint(0, resolvable)))


def components(net: Net) -> list[set[str]]:
    left, found = set(net.nodes), []
    while left:
        group, edge = set(), {left.pop()}
        while edge:
            group |= edge
            edge = {n for n in net.nodes for g in edge if frozenset((n, g)) in net.links} - group
        left -= group
        found.append(group)
    return found


def check(net: Net) -> None:
    for group in components(net):
        best = min(
            group, key=lambda n: (-net.nodes[n].bully._rank.reach, -net.nodes[n].bully._rank.resolvable, n)
        )
        assert [n for n in net.leaders() if n in group] == [best]
        assert {net.nodes[n].bully.claims.gateway for n in group} == {best}
        assert len({(one.epoch, one.gateway) for one in (net.nodes[n].outcomes[-1] for n in group)}) == 1


@pytest.mark.parametrize("seed", range(12))
def test_after_any_storm_the_best_node_of_each_component_leads_it(seed: int) -> None:
    random = Random(seed)
    net = Net()
    for name in NAMES:
        net.add(name)
    for one, two in combinations(NAMES, 2):
        if random.random() < 0.6:
            net.link(one, two)
    for _ in range(30):
        trouble(net, random)
        net.run(random.choice((0.1, 0.5, 1.0, 2.0, 4.0)))
    net.stopped.clear()
    # standing down ends, a beat crosses the longest chain, the best takes over after its delay
    net.run(30)
    check(net)
