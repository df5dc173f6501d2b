"""Logs that are pruned, tombstones that are collected, and a node that was given up and comes back."""

from __future__ import annotations

import json

from entgldb.actors.nodes import is_retired
from entgldb.launch.testing.world import World
from entgldb.messages.administration import RetireNode
from entgldb.messages.client import RequestId
from entgldb.messages.model import NODES, REMOTE_PEERS
from tests.simulation.events.clients import CLOUD
from tests.simulation.events.faults import Nobody
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import DAY_HOURS, Options

LOOK_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""Rows of members are told every 30 s in an idle cluster."""


class Forgetting:
    """Sets a short retention once everybody knows of everybody; retires a node where the options say so."""

    def __init__(self, world: World, options: Options, nodes: list[SimulatedNode]) -> None:
        self.world = world
        self.options = options
        self.nodes = nodes
        self.begun = self._over = False
        self.retired: SimulatedNode | None = None

    def begin(self) -> None:
        """Look again and again until all members are known everywhere.

        Before that a node may fall behind a floor without having done anything wrong: it then needs a
        snapshot, which is another matter.
        """
        if self._over or self.options.retention_hours >= DAY_HOURS:
            return
        if not all(self._knows_all(node) for node in self.nodes):
            self.world.after(LOOK_SECONDS, self.begin)
            return
        self.begun = True
        self.world.note("retention begins")
        for node in self.nodes:
            node.forget_after(self.options.retention_hours)
        if self.options.retire:
            self.world.after(self.world.random.uniform(1.0, 8.0), self._retire)

    def remaining(self) -> list[SimulatedNode]:
        """All but the one that was retired."""
        return [node for node in self.nodes if node is not self.retired]

    def unsettled(self) -> str:
        """The node that was retired has to have tried to come back."""
        if self.retired is not None and not any(n.all_counts()["retired"] for n in self.remaining()):
            return "the retired node was not refused"
        return ""

    def quiet(self) -> None:
        """Time for what was deleted to be collected: nothing of it may come back. It begins no more now."""
        self._over = True
        if self.begun:
            self.world.run(QUIET_SECONDS)

    def _retire(self) -> None:
        lan = [node for node in self.nodes if node.role == "lan"]
        gone = self.world.random.choice(lan)
        left = [node for node in lan if node is not gone and node.up]
        if not left or self.retired is not None:
            return
        gone.crash(noticed=self.world.random.random() < 0.5)
        self.retired = gone
        self.world.fault("retire", gone.name)
        self._order(gone)
        self.world.after(self.world.random.uniform(0.2, 4.0), gone.start)

    def _order(self, gone: SimulatedNode) -> None:
        """Ask until it is done: the node that is asked may be down, or its disk full."""
        lan = [node for node in self.remaining() if node.role == "lan"]
        if any(_says_retired(node, gone.name) for node in lan):
            return
        order = RetireNode(RequestId(self.world.random.randbytes(16), 1), gone.name)
        self.world.random.choice(lan).ask("store", order, Nobody())
        self.world.after(LOOK_SECONDS, self._order, gone)

    def _knows_all(self, node: SimulatedNode) -> bool:
        lan = {other.name for other in self.nodes if other.role == "lan"}
        cloud = {other.name for other in self.nodes if other.role == "cloud"}
        if node.role == "cloud":
            origins = {other.origin for other in self.nodes if other is not node}
            return origins <= set(node.store.members())
        told = {key for key, _ in node.store.documents(NODES)}
        return lan <= told and (not cloud or node.store.known(REMOTE_PEERS, CLOUD))


def _says_retired(node: SimulatedNode, name: str) -> bool:
    body = node.store.get(NODES, name)
    return body is not None and is_retired(json.loads(body))
