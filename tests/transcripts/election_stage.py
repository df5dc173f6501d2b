"""The stage of the election's transcripts: several elections on one virtual clock."""

from __future__ import annotations

from entgldb.messages import codec, wire
from entgldb.messages.client import StandDown
from entgldb.messages.local.actors import ClaimHeard, Fitness, FromPeer
from entgldb.messages.schema import Channel
from tests.unit.actors.election.election_net import Net, Node


class ToldNet(Net):
    """Notes every frame and every outcome with its time."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _step(self, name: str, node: Node) -> None:
        waiting = {other: len(one.inbox) for other, one in self.nodes.items() if other != name}
        known = len(node.outcomes)
        super()._step(name, node)
        for other, before in waiting.items():
            for message in self.nodes[other].inbox[before:]:
                if isinstance(message, FromPeer):
                    self._note(f"{name} -> {other}: {told(message.payload)}")
        for outcome in node.outcomes[known:]:
            self._note(f"{name}: gateway {outcome.gateway or 'nobody'}, epoch {outcome.epoch}: {outcome.why}")

    def _note(self, text: str) -> None:
        self.lines.append(f"{self.now:6.2f} {text}")


class ElectionStage:
    """Commands of a transcript -> what happened."""

    def __init__(self) -> None:
        self.net = ToldNet()

    def perform(self, verb: str, words: list[str], pairs: dict[str, str]) -> list[str]:
        """One command; the lines it caused."""
        getattr(self, "do_" + verb.replace("-", "_"))(*words, **pairs)
        lines, self.net.lines = self.net.lines, []
        return lines

    def do_add(self, *names: str, priority: str = "0", takeover: str = "10", role: str = "lan") -> None:
        for name in names:
            self.net.add(name, priority=int(priority), takeover=float(takeover), role=role)

    def do_mesh(self, *names: str) -> None:
        self.net.mesh(*names)

    def do_link(self, one: str, two: str) -> None:
        self.net.link(one, two)

    def do_cut(self, one: str, two: str) -> None:
        self.net.cut(one, two)

    def do_kill(self, name: str) -> None:
        self.net.kill(name)

    def do_hang(self, name: str) -> None:
        self.net.stopped.add(name)

    def do_wake(self, name: str) -> None:
        self.net.stopped.discard(name)

    def do_resolvable(self, name: str, peers: str) -> None:
        self.net.nodes[name].ctx.hand(Fitness(int(peers)))

    def do_stand_down(self, name: str, seconds: str) -> None:
        self.net.nodes[name].ctx.hand(StandDown(float(seconds)))

    def do_claim(self, at: str, sender: str, epoch: str, beat: str = "1") -> None:
        """Let ``at`` hear of a claim that ``sender`` makes."""
        rank = wire.Rank(0, 0, sender)
        self.net.nodes[at].inbox.append(ClaimHeard(sender, wire.Claim(int(epoch), rank, int(beat))))

    def do_run(self, seconds: str) -> None:
        self.net.run(float(seconds))

    def do_show(self) -> None:
        for name, node in sorted(self.net.nodes.items()):
            bully = node.bully
            present = bully.claims.current
            follows = f"{present.gateway}, epoch {present.epoch}" if present else "nobody"
            self.net.lines.append(f"{name}: {bully.state}, gateway {follows}")


def told(payload: bytes) -> str:
    """A frame of the election in words."""
    message = codec.decode(payload, Channel.PEER).message
    match message:
        case wire.Election(epoch, rank):
            return f"Election epoch {epoch}, rank {rank.resolvable}/{rank.priority}/{rank.node_id}"
        case wire.Alive(epoch):
            return f"Alive epoch {epoch}"
        case wire.Coordinator(claim):
            return f"Coordinator {claim.gateway}, epoch {claim.epoch}"
        case wire.Standing(rank, hindrance):
            told = f"Standing rank {rank.resolvable}/{rank.priority}/{rank.node_id}"
            return f"{told}, {hindrance}" if hindrance else told
    return str(message)
