"""Bad times: wall clocks that step by a month, boards that boot in 1970, a time source that misleads a site.

Nodes must not forget ageing data for it. All must converge once the clocks are right: by themselves where
most clocks had shown the time, by ``clock --reset`` where one node had run ahead alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from entgldb.launch.testing.world import EPOCH_MS, World
from entgldb.messages.administration import ResetClock
from entgldb.messages.client import Refused, RequestId
from entgldb.messages.errors import ErrorCode
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import node_of
from entgldb.messages.schema import Message
from entgldb.storage.log.members import members
from tests.simulation.events import operators
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import DAY_HOURS, Options

STEPPING_SEEDS: Final = 5
"""Every fifth seed has bad times."""
MONTH_MS: Final = 31 * 24 * 3_600_000
"""Beyond the absence limit."""


def of_seed(seed: int, options: Options) -> Options:
    """The options of a seed, with bad times where it has them."""
    if seed % STEPPING_SEEDS != 2:
        return options
    # operators who release what is held, and retire who is away, are looked at in other seeds
    return replace(options, bad_times=True, wild_clocks=False, retire=False)


class Times:
    """Sets the clocks of LAN nodes; a cloud is no board."""

    def __init__(
        self, world: World, nodes: Sequence[SimulatedNode], restart: Callable[[SimulatedNode], None]
    ):
        self._world = world
        self._lan = [node for node in nodes if node.role == "lan"]
        self._restart = restart

    def kinds(self) -> tuple[Callable[[], None], ...]:
        """The faults that may happen."""
        return (self.ahead, self.back, self.boot, self.site)

    def ahead(self) -> None:
        """The clock of one node is set a month ahead, and after a while is right again."""
        random = self._world.random
        self._set(random.choice(self._lan), MONTH_MS, random.uniform(0.5, 4.0))

    def back(self) -> None:
        """The clock of one node is set back, and after a while is right again."""
        random = self._world.random
        node = random.choice(self._lan)
        self._set(node, random.choice((-MONTH_MS, -EPOCH_MS)), random.uniform(0.5, 4.0))

    def site(self) -> None:
        """The time source of the whole site is a month ahead."""
        seconds = self._world.random.uniform(2.0, 6.0)
        for node in self._lan:
            self._set(node, MONTH_MS, seconds)

    def boot(self) -> None:
        """A board without a clock boots, and learns the time while it runs."""
        node = self._world.random.choice(self._lan)
        if node.up:
            node.crash()
            self._set(node, -EPOCH_MS, self._world.random.uniform(3.0, 8.0))
            self._world.after(self._world.random.uniform(0.2, 2.0), self._restart, node)

    def _set(self, node: SimulatedNode, offset_ms: int, seconds: float) -> None:
        node.clock.offset_ms = offset_ms
        self._world.fault("clock-step", f"{node.name} {offset_ms}")
        self._world.after(seconds, setattr, node.clock, "offset_ms", 0)


class Resets:
    """Operators of nodes whose stamps run ahead, once all clocks are right: they do what ``status`` says, and
    where that is refused, what the refusal says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._refused: set[str] = set()
        """Nodes that could not be reset when they were asked last."""
        self._let_in = False
        """Whether people are letting in what was stamped ahead, and go on from there."""

    def unsettled(self, nodes: Sequence[SimulatedNode]) -> str:
        """The thing that is still to happen; empty where no stamp of a LAN node runs ahead."""
        ahead = [node for node in nodes if _runs_ahead(node)]
        self._refused &= {node.name for node in ahead}
        if self._refused:
            # they share the time that they cannot go back from, and nobody goes back for himself
            self._world.reached["reset refused"] += 1
            operators.release_all(nodes)
        elif self._letting_in(nodes, ahead):
            return "logs that nobody writes any more are let in"
        elif ahead:
            for node in ahead:
                if _has_not_heard(node, nodes):
                    continue
                request = RequestId(self._world.random.randbytes(16), 1)
                node.ask("store", ResetClock(request), _Told(self._refused, node.name))
        return f"stamps of {[node.name for node in ahead]} run ahead" if ahead else ""

    def _letting_in(self, nodes: Sequence[SimulatedNode], ahead: Sequence[SimulatedNode]) -> bool:
        """Whether logs that end nowhere, and that nobody writes any more, are let in; or done so."""
        if self._let_in:
            self._let_in = bool(operators.release_all(nodes) or ahead)
        elif not ahead and operators.release_former(nodes):
            self._let_in = True
            self._world.reached["former log let in"] += 1
        return self._let_in


class _Told:
    """Notes whether a node could be reset."""

    def __init__(self, refused: set[str], name: str) -> None:
        self._refused = refused
        self._name = name

    def answer(self, message: Message) -> None:
        self._refused.discard(self._name)
        if isinstance(message, Refused) and message.code == ErrorCode.INVALID.value:
            self._refused.add(self._name)


def _has_not_heard(node: SimulatedNode, nodes: Sequence[SimulatedNode]) -> bool:
    """Whether others have taken more of its log than it has heard, and may prune that before they hear of an
    end.

    What is pruned stays; the node falls behind, takes a snapshot and issues its writes again on top of it.
    ``test_away`` looks at snapshots.
    """
    if node.retention_hours >= DAY_HOURS:
        return False
    heard = [one.row for one in members(node.store.connection).values()]
    told = [row.vector.get(node.origin, 0) for row in heard if node_of(row.origin) != node.name]
    taken = [one.log.vector().get(node.origin, (0,))[0] for one in nodes if one is not node]
    return max(taken, default=0) > max(told, default=0)


def _runs_ahead(node: SimulatedNode) -> bool:
    store = node.store
    return node.up and store.high_mark_ms() - store.known_ms(node.clock.now_ms()) > DRIFT_MS_MAX
