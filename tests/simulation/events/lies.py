"""Certified members that speak as others: in every fifth seed, and what must never come of it."""

from __future__ import annotations

from random import Random

from entgldb.actors.sync.behaviour import Sync
from entgldb.launch.testing.network import Network
from entgldb.launch.testing.world import World
from entgldb.messages.errors import Reason
from tests.simulation.world.node import SimulatedNode

LIAR_SEEDS = 5
"""Every fifth seed; the histories of all others are as they would be without this module."""
INTERVAL_SECONDS = 2.0


class Lies:
    """A node at a time says Hello under the name of another; its links are broken so that it has to."""

    def __init__(self, world: World, network: Network, lan: list[SimulatedNode]) -> None:
        self._world = world
        self._network = network
        self._lan = lan
        self._random = Random(world.seed)
        self.over = False

    def begin(self) -> None:
        """From now on, now and then."""
        self._network.lies.clear()
        if self.over:
            return
        if self._world.seed % LIAR_SEEDS == 0 and len(self._lan) > 1:
            liar, other = self._random.sample(self._lan, 2)
            self.tell(liar, other)
            self._world.after(INTERVAL_SECONDS, self.begin)

    def tell(self, liar: SimulatedNode, other: SimulatedNode) -> None:
        """``liar`` says that it is ``other``, on new links."""
        self._network.lies[liar.name] = other.name
        for end in [e for e in self._network.ends.values() if e.place is liar and e.actor == "sync"]:
            self._network.close(end, Reason.PEER_CLOSED, "broken")
        self._world.after(INTERVAL_SECONDS / 2, self.look)

    def look(self) -> None:
        """Report each session that runs under a name that is not that of the node at the other end."""
        for node in self._lan:
            sync = None if node.host is None else node.host.behaviour("sync")
            for link in list(sync._peers.values()) if isinstance(sync, Sync) else []:
                end = self._network.ends.get(link.link)
                if end is not None and end.other is not None and end.other.place.name != link.node_id:
                    self._world.violate(f"{node.name}: {end.other.place.name} speaks as {link.node_id}")
