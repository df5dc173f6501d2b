"""``entgldb.testing.cluster``: a cluster of whole nodes in this process, for the tests of an application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from entgldb.client.database import Database
from entgldb.launch.testing.edges import Authority
from entgldb.launch.testing.network import Network
from entgldb.launch.testing.node import SimulatedNode
from entgldb.launch.testing.transport import VirtualTransport
from entgldb.launch.testing.world import Clock, World
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import NODES

NODES_MAX: Final = 32
"""Each has seven addresses to dial and its own database; more would take minutes to meet."""
MEET_SECONDS: Final = 120.0
"""Virtual seconds in which new nodes have met."""
SETTLE_SECONDS: Final = 120.0
STEP_SECONDS: Final = 0.25
"""Virtual seconds between two looks at whether all is calm."""
GRAIN_MS: Final = 1


class NotSettledError(AssertionError):
    """Nodes that reach each other are not equal yet; the text says in what."""


class Node:
    """One node: ``db`` is the API to it, as ``entgldb.connect`` gives it."""

    def __init__(self, simulated: SimulatedNode, world: World) -> None:
        self.name: Final = simulated.name
        self.db: Final = Database(simulated.name, transport=VirtualTransport(simulated, world))
        self._simulated = simulated

    def __repr__(self) -> str:
        return f"<node {self.name}, {'up' if self.up else 'down'}>"

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self._simulated.up

    def crash(self) -> None:
        """Lose all that is not on its disk, as by SIGKILL of all its processes; its database can be read."""
        self._simulated.crash()

    def start(self) -> None:
        """Start it again; harmless where it runs."""
        self._simulated.start()


class Cluster:
    """Nodes that all know each other, ``node-1`` and so on. To be used from one thread.

    Time is virtual: it passes while a call waits for its answer, in ``run`` and in ``settle``, and costs
    nothing. The same seed and the same calls give the same history.
    """

    def __init__(self, nodes: int = 3, *, seed: int = 0) -> None:
        """Raises ValueError where ``nodes`` is not from 1 to NODES_MAX."""
        if not 1 <= nodes <= NODES_MAX:
            raise ValueError(f"{nodes} nodes; from 1 to {NODES_MAX} are possible")
        self._world = World(seed)
        self._network = Network(self._world)
        authority = Authority(self._world)
        self._clocks = [Clock(self._world, GRAIN_MS) for _ in range(nodes)]
        self._simulated = [
            SimulatedNode(
                f"node-{number}",
                "lan",
                f"10.0.0.{number}:{7000 + number}",
                self._world,
                self._network,
                authority,
                clock,
            )
            for number, clock in enumerate(self._clocks, 1)
        ]
        self.nodes: Final = tuple(Node(one, self._world) for one in self._simulated)
        self._closed = False
        for one in self._simulated:
            one.seeds = tuple(other.address for other in self._simulated if other is not one)
            one.start()
        self._wait(self._have_not_met, MEET_SECONDS)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, which: int | str) -> Node:
        """A node by its place, from 0, or by its name."""
        return self.nodes[self._index(which)]

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._world.time

    def run(self, seconds: float) -> None:
        """Let so many virtual seconds pass."""
        self._world.run(seconds)

    def settle(self, timeout: float = SETTLE_SECONDS) -> None:
        """Let time pass until all running nodes that reach each other have the same, held entries included.

        Raises NotSettledError after ``timeout`` virtual seconds.
        """
        self._wait(self._unsettled, timeout)

    def partition(self, *groups: Iterable[Node | int | str]) -> None:
        """Cut the network: nodes of different groups do not reach each other. Nodes in none are one more.

        An earlier partition is healed.
        """
        cut = [{self._index(one) for one in group} for group in groups]
        cut.append(set(range(len(self.nodes))) - set().union(*cut))
        self._network.cuts = {
            (self.nodes[one].name, self.nodes[two].name)
            for group in cut
            for other in cut
            if group is not other
            for one in group
            for two in other
        }

    def lose(self, share: float) -> None:
        """Have the network lose that share of all frames, from 0 to 1. Raises ValueError."""
        if not 0 <= share <= 1:
            raise ValueError(f"a share of {share}; it is from 0 to 1")
        self._network.weather.loss = share

    def delay(self, seconds: float) -> None:
        """Have each frame take so many seconds more. Raises ValueError."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"a delay of {seconds} s")
        self._network.weather.delay = seconds

    def heal(self) -> None:
        """Have the network carry everything again. Clocks stay as they are, and nodes that are down."""
        self._network.cuts = set()
        self._network.weather.loss = self._network.weather.delay = 0.0

    def skew(self, which: Node | int | str, seconds: float) -> None:
        """Set a node's wall clock so many seconds ahead of the right time, or behind it (below 0)."""
        self._clocks[self._index(which)].offset_ms = round(seconds * 1000)

    def close(self) -> None:
        """Give the memory back. Raises AssertionError where an actor failed: that is a fault of EntglDB."""
        if self._closed:
            return
        self._closed = True
        for node, one in zip(self.nodes, self._simulated, strict=True):
            node.db.close()
            one.crash()
            one.store.connection.close()
            one.snapshots.close()
        if self._world.violations:
            raise AssertionError("\n".join(self._world.violations))

    def _index(self, which: Node | int | str) -> int:
        if isinstance(which, int):
            return which
        name = which if isinstance(which, str) else which.name
        for number, node in enumerate(self.nodes):
            if node.name == name:
                return number
        raise KeyError(f"no node {name}; there are {', '.join(node.name for node in self.nodes)}")

    def _wait(self, unsettled: Callable[[], str], seconds: float) -> None:
        until = self._world.time + seconds
        while why := unsettled():
            if self._world.time >= until:
                raise NotSettledError(f"after {seconds:g} s of virtual time: {why}")
            self._world.run(STEP_SECONDS)

    def _have_not_met(self) -> str:
        known = [len(one.log.documents(NODES)) for one in self._simulated]
        return "" if min(known) == len(known) else f"nodes know {known} of {len(known)} nodes"

    def _unsettled(self) -> str:
        running = [one for one in self._simulated if one.up]
        for component in self._network.components(running):
            first = component[0]
            for one in component:
                if one.log.held():
                    return f"{one.name} holds entries back whose writer's clock is ahead"
                if one.log.vector() != first.log.vector():
                    return f"{first.name} and {one.name} do not have the same"
                if one.log.unapplied(PAGE_ROWS_MAX):
                    return f"{one.name} waits for entries that it only has recorded"
        return ""
