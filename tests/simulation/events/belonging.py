"""Who belongs to the cluster changes in the midst of it all: a node is expelled, new cluster keys are made.

Its chances are of a stream of its own, so that a seed in which it changes nothing goes as it always went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from entgldb.actors.cluster_key import ClusterKeys
from entgldb.launch.testing.keys import id_of, keys_of
from entgldb.launch.testing.network import End, Network
from entgldb.launch.testing.world import World
from entgldb.messages import wire
from entgldb.messages.administration import ExpelNode, RotateKey
from entgldb.messages.client import RequestId
from entgldb.messages.model import NODES
from entgldb.messages.schema import Message
from tests.simulation.events.operators import Nobody
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import Options

SEEDS: Final = 7
BELONGING: Final = 5
"""Of so many seeds this one."""
AGAIN_SECONDS: Final = 1.0
EFFECTIVE_SECONDS: Final = 5.0
"""From the word of one node to the end of all links with the one that is out, where all reach each other; on
one that was cut off, from its first link on."""
AWAY_SECONDS: Final = 8.0
LINKED_SECONDS: Final = 60.0
"""Within it a node that was cut off has a link again."""
REFUSALS: Final = (wire.Hello, wire.Bye)
"""Frames that also one that is out may get."""


class Belonging:
    """Expels at most one node, and has new keys made."""

    def __init__(
        self, world: World, network: Network, options: Options, lan: Sequence[SimulatedNode]
    ) -> None:
        self.world, self.network, self.lan = world, network, list(lan)
        self.random = random = Random(f"belonging {world.seed}")
        self.happens = world.seed % SEEDS == BELONGING
        self._at_rest = random.random() < 0.5
        """Whether the node is expelled when all have all, so that it can be measured."""
        self.whole_disks = self.happens and random.random() < 0.5
        """Whether a disk that goes back takes ``cluster.key`` with it."""
        self._quick = options.bandwidth == float("inf") and not options.delay
        self._over = False
        self.gone: SimulatedNode | None = None
        """The one that is expelled, once somebody was asked to."""
        self._heard: dict[str, float] = {}
        """Node -> when it was first seen to know it, once all is well."""
        self._leaves = leaves = _can_leave(options, self.lan)
        self._chosen = random.choice(leaves) if leaves and random.random() < 0.75 else None
        self._rotations = random.choice((0, 1, 2)) if self._chosen else random.choice((1, 2))
        self._overheard: Callable[[End, Message], None] | None = None

    def begin(self) -> None:
        """Before the nodes start."""
        if self.happens:
            self.network.certified = True
            self._overheard, self.network.overhear = self.network.overhear, self._overhear
            self.world.after(2.0, self._once_known)

    def _once_known(self) -> None:
        """Once each node has told to which box a key is sealed for it."""
        if self._over:
            return
        if not all(self._knows_all(node) for node in self.lan):
            self.world.after(AGAIN_SECONDS, self._once_known)
            return
        for _ in range(self._rotations):
            self.world.after(self.random.uniform(0.0, 8.0), self._rotate)
        if self._chosen is not None and not self._at_rest:
            self.world.after(self.random.uniform(0.5, 8.0), self._expel)

    def remaining(self, nodes: Sequence[SimulatedNode]) -> list[SimulatedNode]:
        """Those that are not out."""
        return [node for node in nodes if node is not self.gone]

    def settle(self, lan: Sequence[SimulatedNode]) -> str:
        """Do what people do once all is well, and tell what is still to happen; ``lan``: those that stay."""
        self._over = True
        if not self.happens:
            return ""
        if self.gone is not None and not self._says(lan):
            self._order_expulsion(lan)
            return f"nobody has expelled {self.gone.name}"
        return self._invited(lan) or self._key_differs(lan) or self._not_heard(lan)

    def at_rest(self, nodes: Sequence[SimulatedNode]) -> bool:
        """All have all. Expel the node now, if none was, and measure; whether it was done."""
        if not self.happens or self._chosen is None or self.gone is not None or not self._at_rest:
            return False
        self.gone = gone = self._chosen
        left = [node for node in nodes if node is not gone]
        lan = [node for node in left if node.role == "lan"]
        judge, *others = self.random.sample(lan, len(lan))
        leaves = [node for node in others if node in self._leaves]
        away = leaves[-1] if leaves and len(others) > 1 and self.random.random() < 0.5 else None
        reachable = [node for node in left if node is not away]
        cuts = {(away.name, node.name) for node in nodes if away and node is not away}
        cuts |= {(b, a) for a, b in cuts}
        self.network.cuts |= cuts
        self.world.fault("expel", f"{gone.name} by {judge.name}, {away and away.name} is cut off")
        while not judge.log.expelled():
            self._ask(judge, ExpelNode(self._request(), gone.name))
            self.world.run(0.05)
        self._measured(reachable, "all reach each other")
        if away is not None:
            self.world.run(AWAY_SECONDS)
            self.network.cuts -= cuts
            self.world.run(LINKED_SECONDS, lambda: self._linked(away, reachable))
            self._measured([away], "one that was cut off is linked")
        return True

    def _measured(self, nodes: Sequence[SimulatedNode], what: str) -> None:
        began = self.world.time
        self.world.run(EFFECTIVE_SECONDS, lambda: not self._late(nodes))
        late = self._late(nodes)
        self.world.note(f"expelled where {what} within {self.world.time - began:.2f} s")
        if late and self._quick:
            self.world.violate(f"{EFFECTIVE_SECONDS} s after {what}: {late}")
        self.world.reached["expulsion measured"] += self._quick

    def _late(self, nodes: Sequence[SimulatedNode]) -> str:
        gone = self.gone
        assert gone is not None
        for node in nodes:
            if gone.name not in node.log.expelled():
                return f"{node.name} does not know that {gone.name} is out"
            if self._linked(node, [gone]):
                return f"{node.name} has a link with {gone.name}"
        return ""

    def _linked(self, node: SimulatedNode, others: Sequence[SimulatedNode]) -> bool:
        ends = list(self.network.ends.values())
        return any(
            end.place is node and end.other is not None and end.other.open and end.other.place in others
            for end in ends
        )

    def _overhear(self, end: End, message: Message) -> None:
        if self._overheard is not None:
            self._overheard(end, message)
        if self.gone is None or end.other is None or not self._over:
            return
        if end.other.place is self.gone and not isinstance(message, REFUSALS):
            self._not_to(end, message)

    def _not_to(self, end: End, message: Message) -> None:
        teller = next((node for node in self.lan if node is end.place), None)
        if teller is None or self.gone is None or self.gone.name not in teller.log.expelled():
            return
        since = self._heard.setdefault(teller.name, self.world.time)
        if self.world.time - since > EFFECTIVE_SECONDS:
            kind = type(message).__name__
            self.world.violate(f"{teller.name} sends {kind} to {self.gone.name}, and knows that it is out")

    def _rotate(self) -> None:
        """Somebody has a new key made; now and then two do, who need not know of each other."""
        if self._over:
            return
        left = self.remaining(self.lan)
        for node in self.random.sample(left, self.random.choice((1, 1, 2)) if len(left) > 1 else 1):
            if self._ask(node, RotateKey(self._request())):
                self.world.fault("rotate-key", node.name)

    def _expel(self) -> None:
        """By one node or two, until one has done it: it may be down, or its disk full."""
        if self._over:
            return
        self.gone = self._chosen
        left = self.remaining(self.lan)
        if not self._says(left):
            self._order_expulsion(left)
            self.world.after(AGAIN_SECONDS, self._expel)

    def _order_expulsion(self, lan: Sequence[SimulatedNode]) -> None:
        assert self.gone is not None
        for node in self.random.sample(lan, self.random.choice((1, 1, 2)) if len(lan) > 1 else 1):
            if self._ask(node, ExpelNode(self._request(), self.gone.name)):
                self.world.fault("expel", f"{self.gone.name} by {node.name}")

    def _says(self, lan: Sequence[SimulatedNode]) -> bool:
        return self.gone is not None and any(self.gone.name in node.log.expelled() for node in lan)

    def _invited(self, lan: Sequence[SimulatedNode]) -> str:
        """A disk that went back with its file of keys may have none that others hold: it is invited anew."""
        held = {node.name: {id_of(key) for key in keys_of(node).keys} for node in lan}
        for node in lan:
            others = [held[other.name] for other in lan if other is not node]
            if others and all(held[node.name].isdisjoint(theirs) for theirs in others):
                giver = max((other for other in lan if other is not node), key=_stamp_of_key)
                node.crash()
                node.taken = ClusterKeys(keys_of(giver).keys[:1], node.cluster)
                node.start()
                self.world.reached["invited anew"] += 1
                return f"{node.name} had none of the keys of the others"
        return ""

    def _key_differs(self, lan: Sequence[SimulatedNode]) -> str:
        first = keys_of(lan[0]).keys
        for node in lan:
            held, rotation = keys_of(node).keys, node.log.rotation()
            if len(held) > 1 or held != first:
                return f"{node.name} holds {len(held)} cluster keys, {lan[0].name} {len(first)}"
            if rotation is not None and rotation.key_id != id_of(held[0]):
                return f"{node.name} holds another cluster key than the one that counts"
            if rotation is not None and self.gone is not None and self.gone.name in rotation.sealed:
                return f"the cluster key that counts is made for {self.gone.name}, too"
        if self.gone is not None and first[0] in keys_of(self.gone).keys:
            return f"{self.gone.name} is out and has the cluster key"
        return ""

    def _not_heard(self, lan: Sequence[SimulatedNode]) -> str:
        if self.gone is None:
            return ""
        for node in lan:
            if self.gone.name not in node.log.expelled():
                return f"{node.name} does not know that {self.gone.name} is out"
        return ""

    def _knows_all(self, node: SimulatedNode) -> bool:
        told = [body for _, body in node.store.documents(NODES)]
        return sum(b'"Box"' in body and b'"Keys"' in body for body in told) >= len(self.lan)

    def _ask(self, node: SimulatedNode, order: Message) -> bool:
        return node.ask("store", order, Nobody())

    def _request(self) -> RequestId:
        return RequestId(self.random.randbytes(16), 1)


def _stamp_of_key(node: SimulatedNode) -> int:
    rotation = node.log.rotation()
    return 0 if rotation is None else rotation.at_ms


def _can_leave(options: Options, lan: Sequence[SimulatedNode]) -> list[SimulatedNode]:
    """Those without whom the others still reach each other; at least two stay."""
    if len(lan) < 3 or options.retire:
        return []
    return {"mesh": list(lan), "line": [lan[0], lan[-1]], "star": list(lan[1:])}[options.shape]
