"""The disk of the node that is away goes back in time; in most seeds nothing tells the node of it."""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile
from random import Random

from entgldb.launch.testing.world import World
from entgldb.messages.administration import HealOrigin
from entgldb.messages.client import RequestId
from entgldb.messages.errors import InvalidError
from tests.simulation.events.clients import Acknowledged, Client
from tests.simulation.events.operators import Nobody
from tests.simulation.watch.union import Union
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode

EVERY, REMAINDERS = 20, (9, 18, 19)
"""Of so many seeds these have it: by production's own retention and without."""
PATIENCE_SECONDS = 30.0
"""Before the decision is said again."""
HEALER = b"healing operator"
"""The id of a client."""


class Rewind:
    """One roll-back of one node, or none."""

    def __init__(self, world: World, watch: Union, node: SimulatedNode, client: Client) -> None:
        self.world, self.watch, self.node, self.client = world, watch, node, client
        self.happens = world.seed % EVERY in REMAINDERS
        self._disks = Disks(world, watch)
        self._random = Random(f"rewind {world.seed}")
        self.told = self._random.random() < 0.25
        self.acks: Acknowledged | None = None
        """What was acknowledged after it, where the log of before may have another end."""
        self._asked_at: dict[tuple[str, str], float] = {}
        """Role and origin -> when a node of it was told the decision: all others of the LAN hear of it."""
        self._decided: dict[str, bytes] = {}

    def together(self) -> None:
        """The copy is made while all hear of each other."""
        if self.happens:
            self.world.after(self._random.uniform(1.0, 4.5), self._copy)

    def apart(self) -> None:
        """The copy comes back while the node is away."""
        if self.happens:
            self.world.after(self._random.uniform(0.3, 5.5), self._put_back)

    def heal(self, nodes: list[SimulatedNode]) -> bool:
        """Somebody decides which branch stays, and says the same to a cloud; whether there was anything."""
        found = False
        for node in nodes:
            for origin in sorted(node.log.forked()):
                found = True
                last = self._asked_at.get((node.role, origin), -PATIENCE_SECONDS)
                self._decide(nodes, origin)
                keep = self._keep(node, origin)
                if keep and self.world.time - last >= PATIENCE_SECONDS:
                    self._asked_at[node.role, origin] = self.world.time
                    request = RequestId(HEALER, len(self._asked_at))
                    node.ask("store", HealOrigin(request, origin, keep), Nobody())
        return found

    def _keep(self, node: SimulatedNode, origin: str) -> str:
        """The word for the branch that was decided for; empty where the node has not heard of it."""
        wanted = self._decided[origin]
        for word in ("ours", "theirs"):
            with suppress(InvalidError):  # ours is pruned
                _, digest = node.store.incarnations.branch(origin, word) or (0, b"")
                chain = {one.hash for one in self.watch.branch_of(digest)}
                if wanted in chain or digest in {one.hash for one in self.watch.branch_of(wanted)}:
                    return word
        return ""

    def _decide(self, nodes: list[SimulatedNode], origin: str) -> None:
        """One branch, whoever has it; what a node has pruned can only stay."""
        if origin in self._decided:
            return
        heads = {node.log.vector().get(origin, (0, b"")) for node in nodes}
        chains = [[one.hash for one in reversed(self.watch.branch_of(digest))] for _, digest in heads]
        common = len(list(takewhile(lambda same: len(set(same)) == 1, zip(*chains, strict=False))))
        kept = [node for node in nodes if node.log.floors().get(origin, 0) > common]
        found = {node.log.vector()[origin][1] for node in kept or nodes if origin in node.log.vector()}
        self._decided[origin] = self._random.choice(sorted(found))
        self.world.reached["fork healed"] += 1

    def _copy(self) -> None:
        if self.node.store.connection.in_transaction:
            self.world.after(0.05, self._copy)
        else:
            self._disks.copy(self.node)

    def _put_back(self) -> None:
        old = self.node.origin
        self.node.crash()
        self.world.fault("roll-back", "told" if self.told else "")
        self._disks.put_back(self.node, told=self.told)
        if not self.told:
            for follower in self.node.followers:
                follower.begin_anew()
            self.watch.fork(old)
            self.acks = self.client.acks = Acknowledged()
        if self._random.random() < 0.7:
            self.node.start()
