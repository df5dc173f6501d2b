"""The faults: one at random at a time, many at once in the end. Each heals by itself or at last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from entgldb.actors.node.behaviour import CHILDREN
from entgldb.actors.node.supervision import Life
from entgldb.actors.store.gates.disk_gate import LOOK_SECONDS
from entgldb.launch.testing.edges import Authority
from entgldb.launch.testing.host import HOP_SECONDS
from entgldb.launch.testing.network import Network, Weather
from entgldb.launch.testing.world import World
from entgldb.messages.administration import PauseSync
from entgldb.messages.client import Isolate, StandDown
from entgldb.messages.errors import Reason
from entgldb.messages.schema import Message
from tests.simulation.events.clients import PATIENCE_SECONDS, Client
from tests.simulation.events.operators import Nobody, release_held
from tests.simulation.events.times import Times
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import DAY_HOURS, Options

ROOM_SECONDS = LOOK_SECONDS + PATIENCE_SECONDS
"""After it has room again a node may refuse until its next look, and the client hears of it later."""
INTERVAL_SECONDS = 0.5
"""Between two faults, on average."""
LONG_OUTAGE_SEEDS = 4
"""In every fourth seed the authority is away so much longer:"""
LONG_OUTAGE_FACTOR = 10


@dataclass
class Faults:
    """The source of trouble of one run."""

    world: World
    network: Network
    nodes: list[SimulatedNode]
    clients: list[Client]
    authority: Authority
    options: Options
    restarted: Callable[[SimulatedNode], None]
    disks: Disks
    injected: int = 0
    over: bool = False
    _kinds: list[Callable[[], None]] = field(default_factory=list)

    def begin(self) -> None:
        """Frames suffer from the start, the rest comes piece by piece."""
        options = self.options
        self.network.weather = options.weather()
        self.world.lane_loss, self.world.send_refusal = options.lane_loss, options.send_refusal
        self._kinds = [
            self.partition,
            self.partition,
            self.one_way,
            self.crash,
            self.crash,
            self.torn_commit,
            self.kill_actor,
            self.kill_actor,
            self.clock_jump,
            self.reset_link,
            self.squall,
            self.same_instant,
            self.stand_down,
            self.isolate,
            self.disk_full,
            self.commit_fails,
            self.roll_back,
            self.disk_low,
            self.hang,
            self.hold_up,
            self.slow_actor,
        ]
        if options.bad_times:
            bad = Times(self.world, self.nodes, self._restart)
            self._kinds += bad.kinds()
        if options.wild_clocks:
            self._kinds += [self.release_held] * 4  # it takes that something is held at the moment
        if options.pauses:
            self._kinds += [self.pause] * 6
        if options.cloud:
            self._kinds += [self.switch_peer, self.authority_down, self.refuse_tokens]
        self._next()

    def heal(self) -> None:
        """Everything works again; lost data stay lost."""
        self.over = True
        self.network.cuts.clear()
        self.network.weather = self.options.calm()
        self.world.lane_loss = self.world.send_refusal = 0.0
        self.authority.up, self.authority.revoked = True, False
        for node in self.nodes:
            node.clock.offset_ms = 0
            node.store.trap = ""
            self._room_again(node)
            node.store.fails_next = False
            self._restart(node)
            for slot in node.host.slots.values() if node.host is not None else ():
                slot.hop = HOP_SECONDS

    def partition(self) -> None:
        """Two groups that do not reach each other for a while."""
        names = [node.name for node in self.nodes]
        self.world.random.shuffle(names)
        cut = self.world.random.randrange(1, len(names))
        ways = {(a, b) for a in names[:cut] for b in names[cut:]}
        self._cut("partition", ways | {(b, a) for a, b in ways}, 0.3, 5.0)

    def one_way(self) -> None:
        """Frames pass in one direction only."""
        one, two = self.world.random.sample(self.nodes, 2)
        self._cut("one-way", {(one.name, two.name)}, 0.3, 5.0)

    def crash(self) -> None:
        """A node loses all but its disk."""
        node = self._node()
        if node.up:
            self._count("crash", node.name)
            node.crash(noticed=self.world.random.random() < 0.5)
            self.world.after(self.world.random.uniform(0.2, 3.0), self._restart, node)

    def torn_commit(self) -> None:
        """The power goes right before or right after the next COMMIT."""
        node = self._node()
        if node.up and not node.store.trap:
            node.store.trap = self.world.random.choice(("before", "after"))
            self._count(f"crash-{node.store.trap}-commit", node.name)
            self.world.after(self.world.random.uniform(1.0, 3.0), self._restart, node)

    def kill_actor(self) -> None:
        """One actor dies with all it had not yet read; the node actor starts it again."""
        node = self._node()
        name = self.world.random.choice(CHILDREN)
        if node.host is not None and node.host.behaviour(name) is not None:
            self._count(f"kill-{name}", node.name)
            node.host.kill(name)

    def hang(self) -> None:
        """One actor turns its loop no more, until the node actor notices."""
        life = Life(-1, self.world.random.choice(("", "a commit")), "T")
        self._hold("hang", math.inf, self.world.random.choice((life, Life(-1, "", "S"))))

    def hold_up(self) -> None:
        """One actor waits long for its disk, or is in a long step that it has named."""
        lives = (Life(-1, "", "D"), Life(-1, "a commit", "S"))
        self._hold("hold-up", self.world.random.uniform(1.0, 12.0), self.world.random.choice(lives))

    def slow_actor(self) -> None:
        """One actor takes its time before each turn, for a while."""
        node, name = self._node(), self.world.random.choice(CHILDREN)
        slot = node.host.slots.get(name) if node.host is not None else None
        if slot is not None:
            self._count("slow-actor", f"{node.name} {name}")
            slot.hop = self.world.random.uniform(0.02, 1.5)
            self.world.after(self.world.random.uniform(0.5, 5.0), setattr, slot, "hop", HOP_SECONDS)

    def clock_jump(self) -> None:
        """Forward or back, beyond the drift bound only where the options say so."""
        node = self._node()
        wide = 100_000 if self.options.wild_clocks and node.role == "lan" else 1_500
        node.clock.offset_ms = self.world.random.randint(-wide, wide)
        self._count("clock-jump", f"{node.name} {node.clock.offset_ms}")

    def reset_link(self) -> None:
        """An open link breaks."""
        ends = [end for end in self.network.ends.values() if end.other is not None]
        if ends:
            end = self.world.random.choice(ends)
            self._count("reset", f"{end.place.name}")
            self.network.close(end, Reason.PEER_CLOSED, "reset")

    def squall(self) -> None:
        """For a while the network is far worse."""
        self._count("squall")
        options = self.options
        self.network.weather = Weather(0.5, 0.3, 0.5, 0.1, options.delay, options.bandwidth)
        self.world.after(self.world.random.uniform(0.2, 1.5), self._calm)

    def same_instant(self) -> None:
        """All clients write the same key at once: concurrent overwrites, often with equal stamps."""
        self._count("same-instant")
        for client in self.clients:
            client.write_now("k0")

    def stand_down(self) -> None:
        """Somebody orders a node not to lead for a while."""
        self._order("stand-down", "election", StandDown(self.world.random.uniform(0.5, 5.0)))

    def isolate(self) -> None:
        """Somebody orders a node to have no LAN links for a while."""
        self._order("isolate", "sync", Isolate(self.world.random.uniform(0.3, 5.0)))

    def pause(self) -> None:
        """Somebody pauses links of a node for a while, which the node keeps over its crashes."""
        kind = self.world.random.choice(("lan", "cloud"))
        order = PauseSync(kind, True, self.world.random.uniform(0.3, 5.0))
        self._order(f"pause {kind}", "store", order)

    def disk_full(self) -> None:
        """No transaction of a node can be committed for a while."""
        node = self._node()
        node.store.full = True
        self._count("disk-full", node.name)
        self.world.after(self.world.random.uniform(0.2, 3.0), self._room_again, node)

    def commit_fails(self) -> None:
        """One transaction of a node fails while batches of peers are on their way, and the next is fine."""
        node = self._node()
        node.store.fails_next = True
        self._count("commit-fails", node.name)

    def release_held(self) -> None:
        """Somebody has a node apply what it holds back, whatever the writer's clock says."""
        for node in (self._node(), *self.nodes):
            if node.up and release_held(node):
                self._count("release-held", node.name)
                return

    def roll_back(self) -> None:
        """A copy of a node's disk is taken; the next time it takes the place of the disk."""
        if self.options.retention_hours < DAY_HOURS:
            return  # it would fall behind what the others have pruned, and that is another matter
        node = self._node()
        if not self.disks.copied(node):
            if not node.store.connection.in_transaction:
                self.disks.copy(node)
        elif node.up:
            self._count("roll-back", node.name)
            node.crash()
            self.disks.put_back(node, told=True)
            self.world.after(self.world.random.uniform(0.2, 3.0), self._restart, node)

    def disk_low(self) -> None:
        """For a while a node's disk has less free than its soft floor, or than its hard one."""
        node = self._node()
        node.disk.free = self.world.random.choice((1_000, 10_000_000, 100_000_000))
        self._count("disk-low", f"{node.name} {node.disk.free}")
        self.world.after(self.world.random.uniform(0.5, 5.0), self._room_again, node)

    def switch_peer(self) -> None:
        """Somebody disables or enables the cloud peer."""
        lan = [client for client in self.clients if client.node.role == "lan"]
        client = self.world.random.choice(lan)
        if client.node.up and not client.stopped:
            enabled = self.world.random.random() < 0.6
            if client.put_peer("", add=False, enabled=enabled):
                self._count("switch-peer", f"{client.node.name} {enabled}")

    def authority_down(self) -> None:
        """No tokens for a while."""
        self._count("authority-down")
        self.authority.up = False
        away = self.world.random.uniform(0.5, 4.0)
        if self.world.seed % LONG_OUTAGE_SEEDS == 1:
            away *= LONG_OUTAGE_FACTOR  # mostly longer than a token lives
        self.world.after(away, setattr, self.authority, "up", True)

    def refuse_tokens(self) -> None:
        """For a while the cloud takes no token, however good."""
        self._count("refuse-tokens")
        self.authority.revoked = True
        self.world.after(self.world.random.uniform(0.5, 4.0), setattr, self.authority, "revoked", False)

    def _next(self) -> None:
        if not self.over:
            self.world.random.choice(self._kinds)()
            self.world.after(self.world.random.expovariate(1 / INTERVAL_SECONDS), self._next)

    def _order(self, kind: str, actor: str, order: Message) -> None:
        node = self._node()
        if node.ask(actor, order, Nobody()):
            self._count(kind, node.name)

    def _room_again(self, node: SimulatedNode) -> None:
        node.store.full, node.disk.free = False, None
        node.short_until = self.world.time + ROOM_SECONDS

    def _count(self, kind: str, detail: str = "") -> None:
        self.injected += 1
        self.world.fault(kind, detail)

    def _node(self) -> SimulatedNode:
        return self.world.random.choice(self.nodes)

    def _hold(self, kind: str, seconds: float, life: Life) -> None:
        node, name = self._node(), self.world.random.choice(CHILDREN)
        if node.host is not None and node.host.hold(name, seconds, life):
            self._count(kind, f"{node.name} {name} {seconds:.1f}")

    def _cut(self, kind: str, ways: set[tuple[str, str]], shortest: float, longest: float) -> None:
        ways -= self.network.cuts
        self.network.cuts |= ways
        self._count(kind, " ".join(f"{a}>{b}" for a, b in sorted(ways)))
        self.world.after(self.world.random.uniform(shortest, longest), self._mend, ways)

    def _mend(self, ways: set[tuple[str, str]]) -> None:
        self.network.cuts -= ways

    def _calm(self) -> None:
        if not self.over:
            self.network.weather = self.options.weather()

    def _restart(self, node: SimulatedNode) -> None:
        """Once more from the disk, unless it is up (the trapped commit never came)."""
        if not node.up:
            node.store.trap = ""
            self.restarted(node)
            node.start()
