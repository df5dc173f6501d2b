"""Every counter is exactly the sum of the increments that were acknowledged, but for those that are lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from entgldb.launch.testing.world import World
from tests.simulation.events.tallies import TALLIES
from tests.simulation.watch.oracle import Id, Operation
from tests.simulation.world.node import SimulatedNode


def exact(
    world: World,
    nodes: Iterable[SimulatedNode],
    union: Mapping[Id, Operation],
    acknowledged: Mapping[Id, tuple[str, int]],
) -> None:
    """``union``: all entries that are left; ``acknowledged``: key and amount of each increment that was not
    lost with a disk or a node, under the name that its entry was first given."""
    sums, logged = Counter[str](), Counter[str]()
    for one in union.values():
        if one.place[0] == TALLIES:
            logged[one.place[1]] += 1
    for key, amount in acknowledged.values():
        sums[key] += amount
        logged[key] -= 1
    for key in sorted(logged):
        if logged[key] > 0:
            # a retired node's last words, or a request done twice because a disk had forgotten the first
            world.reached["tally with increments that nobody was told of"] += 1
            continue
        world.reached["tally compared"] += 1
        for node in nodes:
            found = node.store.get(TALLIES, key)
            shown = None if found is None else json.loads(found)["n"]
            if shown != sums[key]:
                world.violate(f"{node.name}: {key} counts {shown}, and {sums[key]} was acknowledged")
