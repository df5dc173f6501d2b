"""Several elections joined by links that can be cut, on one virtual clock."""

from __future__ import annotations

from entgldb.actors.election.behaviour import Bully
from entgldb.actors.session.claims import Carried
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import (
    ClaimHeard,
    ClaimToSend,
    ElectionOutcome,
    FromPeer,
    PeerDown,
    PeerUp,
    ToPeer,
)
from entgldb.messages.schema import Message
from entgldb.messages.settings import ElectionSettings
from tests.support.fake_context import FakeContext

STEP = 0.05


class Node:
    """One election and the little of sync it needs: a heartbeat a second with the claim to send."""

    def __init__(self, settings: ElectionSettings, seed: int, born: float) -> None:
        self.ctx = FakeContext(seed, wall_ms=1_800_000_000_000 + int(born * 1000))
        self.born = born
        self.inbox: list[Message] = []
        self.bully = Bully(settings)
        self.ctx.behaviour = self.bully
        self.carried = Carried(settings.node_id)
        self.beat_in = 1.0
        self.outcomes: list[ElectionOutcome] = []
        self.bully.start(self.ctx)


class Net:
    """Delivers frames and heartbeats over the links that are up, one step (50 ms) later."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.links: set[frozenset[str]] = set()
        self.stopped: set[str] = set()
        self.now = 0.0
        self._seed = 0

    def add(self, node_id: str, *, priority: int = 0, role: str = "lan", takeover: float = 10.0) -> Node:
        self._seed += 1
        settings = ElectionSettings(node_id, role, priority, takeover)
        self.nodes[node_id] = Node(settings, self._seed, self.now)
        return self.nodes[node_id]

    def link(self, one: str, two: str) -> None:
        self.links.add(frozenset((one, two)))
        self.nodes[one].ctx.hand(PeerUp(two))
        self.nodes[two].ctx.hand(PeerUp(one))

    def mesh(self, *names: str) -> None:
        for index, one in enumerate(names):
            for two in names[index + 1 :]:
                self.link(one, two)

    def cut(self, one: str, two: str, reason: Reason = Reason.HEARTBEAT_LOST) -> None:
        self.links.discard(frozenset((one, two)))
        for here, there in ((one, two), (two, one)):
            if here in self.nodes:
                self.nodes[here].ctx.hand(PeerDown(there, reason.value))

    def kill(self, node_id: str) -> None:
        del self.nodes[node_id]
        for pair in [p for p in self.links if node_id in p]:
            (other,) = pair - {node_id}
            self.cut(node_id, other, Reason.PEER_CLOSED)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for name in sorted(self.nodes.keys() - self.stopped):
                self._step(name, self.nodes[name])

    def leaders(self) -> list[str]:
        return sorted(n for n, node in self.nodes.items() if node.bully.state == "leading")

    def followed(self) -> set[str]:
        return {node.bully.claims.gateway for node in self.nodes.values()}

    def _step(self, name: str, node: Node) -> None:
        # a node that hung finds that time has gone on without it
        node.ctx.run(self.now - node.born - node.ctx.monotonic())
        inbox, node.inbox = node.inbox, []
        for message in inbox:
            if not isinstance(message, ClaimHeard) or node.carried.hear(message.claim):
                node.ctx.hand(message)
        node.outcomes += node.ctx.take(ElectionOutcome)
        for frame in node.ctx.take(ToPeer):
            for other in self._reached(name, frame.node_id):
                other.inbox.append(FromPeer(name, frame.payload))
        for order in node.ctx.take(ClaimToSend):
            node.carried.claim = order.claim
            if order.now:
                node.beat_in = 0.0
        node.beat_in -= STEP
        if node.beat_in <= 0:
            node.beat_in = 1.0
            for other in self._reached(name, ""):
                if node.carried.claim is not None:
                    other.inbox.append(ClaimHeard(name, node.carried.claim))

    def _reached(self, name: str, target: str) -> list[Node]:
        others = [next(iter(p - {name})) for p in self.links if name in p]
        return [self.nodes[o] for o in sorted(others) if target in ("", o) and o in self.nodes]
