"""Virtual links with latency, loss, duplication, reordering, partitions and one-way cuts.

A frame between two nodes has far worse to fear here than on TLS, which neither loses nor reorders
within a link: whatever the protocol survives here, it survives there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from entgldb.actors.line import NOTHING, Flow
from entgldb.actors.ports import CloudTarget
from entgldb.launch.testing.keys import Holder, common_key, own_key
from entgldb.launch.testing.world import World
from entgldb.messages import codec
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp
from entgldb.messages.schema import Message
from entgldb.messages.wire import Hello

CONNECT_TIMEOUT_SECONDS = 2.0
FRAMES = {
    "Credential": "credential renewed",
    "GapRequest": "round begun again",
    "Supply": "recorded entry supplied",
}
"""Frames that only a rare branch sends."""


class Place(Holder, Protocol):
    """A node as the network sees it."""

    role: str
    address: str
    up: bool
    life: int

    def deliver(self, actor: str, message: Message) -> bool:
        """Hand a wire's message to an actor; False when it is not there."""


P = TypeVar("P", bound=Place)


@dataclass
class Weather:
    """The network's treatment of frames; chances between 0 and 1, times in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    latency: float = 0.002
    delay: float = 0.0
    """The way itself, always as long."""
    bandwidth: float = math.inf
    """Bytes a second that each way of a link carries: a frame takes as long as its bytes take."""


@dataclass
class End:
    """One side of a link."""

    id: int
    place: Place
    actor: str
    life: int
    open: bool = True
    last_arrival: float = 0.0
    """Of a frame sent from here, so that nothing is overtaken by accident."""
    sent: int = 0
    """Bytes, the next three too."""
    arrived: int = 0
    """Of whole frames."""
    free_at: float = 0.0
    """When the line has taken all that was sent from here."""
    coming: deque[tuple[float, float, int]] = field(default_factory=deque, repr=False)
    """Frames on their way to here: when the first and the last byte come, and how many they are."""
    other: End | None = field(default=None, repr=False)


class Network:
    """All links of all nodes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather = Weather()
        self.places: dict[str, Place] = {}
        self.ends: dict[int, End] = {}
        self.cuts: set[tuple[str, str]] = set()
        """(from, to): nothing passes in this direction."""
        self.forbidden: set[tuple[str, str]] = set()
        """Pairs that can never reach each other: the shape of the network."""
        self.lies: dict[str, str] = {}
        """A node -> the name that it says in Hello instead of its own."""
        self.forge: Callable[[End, Message], Message] | None = None
        """From a frame to the one that is said in its place."""
        self.overhear: Callable[[End, Message], None] | None = None
        """Is told of each frame before it is sent."""
        self.certified = False
        """Whether links of the LAN tell the keys under which they are made, and need one in common."""
        self._ids = 0

    def add(self, place: Place) -> None:
        """Make a node reachable at its address."""
        self.places[place.address] = place

    def passes(self, source: Place, target: Place) -> bool:
        """Whether a frame gets through now."""
        way = (source.name, target.name)
        return way not in self.cuts and way not in self.forbidden

    def components(self, places: Iterable[P]) -> list[list[P]]:
        """Those of the given nodes that reach each other, directly or by others, each group by itself."""
        left, found = list(places), []
        while left:
            component = [left.pop(0)]
            for one in component:
                near = [other for other in left if self._reachable(other, one)]
                component += near
                left = [other for other in left if other not in near]
            found.append(component)
        return found

    def new_end(self, place: Place, actor: str) -> End:
        """A side with a number of its own."""
        self._ids += 1
        end = self.ends[self._ids] = End(self._ids, place, actor, place.life)
        return end

    def as_told(self, end: End, message: Message) -> Message:
        """A frame as its sender says it: a LAN node that lies says Hello under the name of another."""
        if self.forge is not None:
            message = self.forge(end, message)
        name = self.lies.get(end.place.name)
        lan = end.other is not None and "cloud" not in (end.place.role, end.other.place.role)
        if not isinstance(message, Hello) or name is None or not lan:
            return message
        self.world.fault("lie", f"{end.place.name} as {name}")
        return replace(message, node_id=name, origin=f"{name}/{message.origin.rpartition('/')[2]}")

    def delay(self) -> float:
        """The time one frame takes."""
        return self.weather.delay + self.weather.latency * (0.5 + self.world.random.random())

    def connect(self, end: End, address: str, cloud: bool) -> None:
        """The second half of a dial: the other side is there, or is not."""
        target = self.places.get(address)
        if not end.open or end.life != end.place.life:
            return
        if target is None or not self._reachable(end.place, target):
            self.world.after(CONNECT_TIMEOUT_SECONDS, self.drop, end, Reason.UNREACHABLE)
            return
        if not target.up:
            self.drop(end, Reason.UNREACHABLE)
            return
        if (target.role == "cloud") is not cloud or target is end.place:
            self.drop(end, Reason.WRONG_NODE if target is end.place else Reason.TLS_REFUSED)
            return
        under = common_key(end.place, target) if self.certified and not cloud else ""
        if self.certified and not (cloud or under):
            self.drop(end, Reason.TLS_REFUSED)
            return
        other = self.new_end(target, "sync")
        end.other, other.other = other, end
        host = end.place.address.rpartition(":")[0]
        arrived = LinkUp(other.id, True, f"{host}:{40000 + other.id}", *self._shown(end.place, under, cloud))
        if not target.deliver("sync", arrived):
            self.drop(end, Reason.UNREACHABLE)
            other.open = False
            return
        end.place.deliver(end.actor, LinkUp(end.id, False, address, *self._shown(target, under, cloud)))

    @staticmethod
    def _shown(place: Place, under: str, cloud: bool) -> tuple[str, str, str]:
        """The node id, its key and the key of the cluster, as the other side of a link sees them."""
        return "" if cloud else place.name, own_key(place) if under else "", under

    def drop(self, end: End, reason: Reason, text: str = "") -> None:
        """This side is closed; said exactly once."""
        if end.open:
            end.open = False
            del self.ends[end.id]
            if end.life == end.place.life:
                end.place.deliver(end.actor, LinkDown(end.id, reason.value, text))

    def close(self, end: End, reason: Reason, text: str = "") -> None:
        """Close this side now and let the other side learn of it, if a packet gets there."""
        other = end.other
        self.drop(end, reason, text)
        if other is not None:
            due = max(self.world.time + self.delay(), end.last_arrival)
            self.world.after(due - self.world.time, self._closed_by_peer, end, other)

    def send(self, end: End, payload: bytes) -> None:
        """One frame, under the weather, behind all that was sent before."""
        took = len(payload) / self.weather.bandwidth
        end.sent += len(payload)
        end.free_at = max(end.free_at, self.world.time) + took
        random, weather = self.world.random, self.weather
        copies = 1
        if random.random() < weather.loss:
            self.world.fault("loss", f"{end.place.name}")
            copies = 0
        elif random.random() < weather.duplication:
            self.world.fault("duplication", f"{end.place.name}")
            copies = 2
        for _ in range(copies):
            due = end.free_at + self.delay()
            if random.random() < weather.reordering:
                self.world.fault("reordering", f"{end.place.name}")
                due += weather.latency * 3 * random.random()
            else:
                due = end.last_arrival = max(due, end.last_arrival)
            if end.other is not None and took:
                end.other.coming.append((due - took, due, len(payload)))
            self.world.after(due - self.world.time, self._arrive, end, payload)

    def flow(self, end: End) -> Flow:
        """The traffic of a link, to and from one side; of a frame as much as there was time for."""
        now = self.world.time
        if not end.coming and end.free_at <= now:
            return Flow(end.arrived, end.sent, 0)
        while end.coming and end.coming[0][1] <= now:
            end.coming.popleft()
        partly = sum(int(size * (now - at) / (due - at)) for at, due, size in end.coming if at < now < due)
        late = max(0.0, end.free_at - now)
        waiting = min(end.sent, int(late * self.weather.bandwidth)) if late else 0
        return Flow(end.arrived + partly, end.sent - waiting, waiting)

    def lose_node(self, place: Place, actor: str | None, *, noticed: bool) -> None:
        """A node or one actor of it is gone; ``noticed``: its kernel still says so to the others."""
        for end in [e for e in self.ends.values() if e.place is place and actor in (None, e.actor)]:
            end.open = False
            del self.ends[end.id]
            if noticed and end.other is not None:
                self.world.after(self.delay(), self._closed_by_peer, end, end.other)

    def _arrive(self, end: End, payload: bytes) -> None:
        other = end.other
        if other is None or not other.open:
            return
        if not self.passes(end.place, other.place):
            self.world.faults["cut-frame"] += 1
            return
        other.arrived += len(payload)
        self.world.note(f"{end.place.name}>{other.place.name}", payload)
        if not other.place.deliver(other.actor, FrameIn(other.id, payload)):
            self.close(other, Reason.PEER_CLOSED)

    def _closed_by_peer(self, end: End, other: End) -> None:
        if self.passes(end.place, other.place):
            self.drop(other, Reason.PEER_CLOSED)

    def reaches(self, one: Place, address: str) -> bool:
        """Whether ``one`` could have a link to who is at ``address`` now."""
        target = self.places.get(address)
        return target is not None and target.up and self._reachable(one, target)

    def _reachable(self, one: Place, two: Place) -> bool:
        return self.passes(one, two) and self.passes(two, one)


class VirtualLinks:
    """Implements ``ports.Links`` for one actor of one node in one life."""

    def __init__(self, network: Network, place: Place, actor: str) -> None:
        self._network = network
        self._place = place
        self._actor = actor

    def dial(self, address: str) -> int:
        return self._dial(address, cloud=False)

    def dial_cloud(self, target: CloudTarget) -> int:
        return self._dial(target.address, cloud=True)

    def send(self, link: int, message: Message) -> bool:
        end = self._network.ends.get(link)
        if end is None or not end.open or end.other is None:
            return False
        world = self._network.world
        if world.random.random() < world.send_refusal:
            world.fault("send-refused", self._place.name)
            self.close(link, Reason.SLOW_READER.value, "the peer does not read what it is sent")
            return False
        branch = FRAMES.get(type(message).__name__)
        if branch is not None:
            self._network.world.reached[branch] += 1
        if self._network.overhear is not None:
            self._network.overhear(end, message)
        self._network.send(end, codec.encode(self._network.as_told(end, message)))
        return True

    def flow(self, link: int) -> Flow:
        end = self._network.ends.get(link)
        return NOTHING if end is None else self._network.flow(end)

    def close(self, link: int, reason: str, text: str = "") -> None:
        end = self._network.ends.get(link)
        if end is not None:
            self._network.world.after(0.0, self._network.close, end, Reason(reason), text)

    def good_until_ms(self) -> int:
        """Nobody shows certificates here."""
        return 0

    def admit(self, link: int, client_id: str) -> None:
        """Frames have no limit here but that of the codec."""

    def port(self) -> int:
        return int(self._place.address.rpartition(":")[2])

    def _dial(self, address: str, *, cloud: bool) -> int:
        end = self._network.new_end(self._place, self._actor)
        delay = self._network.delay() * 2
        self._network.world.after(delay, self._network.connect, end, address, cloud)
        return end.id
