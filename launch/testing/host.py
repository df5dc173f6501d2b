"""The other host: carries the behaviours of one node for one life, from boot to crash.

Actor messages go through the codec, in order between each pair of actors, with small delays drawn
from the seed; what has arrived when an actor wakes is handled together and then flushed, as in
production.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Callable
from random import Random

from entgldb.actors.behaviour import Asker, Behaviour, Life
from entgldb.actors.node.behaviour import CHILDREN
from entgldb.launch.testing.world import Clock, World
from entgldb.messages import codec
from entgldb.messages.administration import Happened
from entgldb.messages.client import Refused
from entgldb.messages.errors import ErrorCode
from entgldb.messages.limits import LOCAL_FRAME_BYTES_MAX
from entgldb.messages.local.actors import Addresses, ChildExited, Configure, ElectionOutcome, Ready
from entgldb.messages.schema import Channel, Message

HOP_SECONDS = 0.0008
"""The longest way of a message between two actors of one node."""
SPAWN_SECONDS = 0.05
_NOT_NOW = (ErrorCode.CLOCK, ErrorCode.DISK_FULL)
"""Nobody writes while the clock is off, or the disk nearly full; parts of the node try again."""

Build = Callable[[str, Configure], Behaviour]


class CrashNow(BaseException):
    """The power goes in the middle of what a behaviour does; nothing below may catch it."""


class ActorAsker:
    """The sender of an actor message, should the receiver answer it."""

    def __init__(self, host: Host, me: str, sender: str, about: Message) -> None:
        self._host, self._me, self._sender, self._about = host, me, sender, about

    def answer(self, message: Message) -> None:
        if isinstance(message, Refused) and message.code in _NOT_NOW:
            return
        if isinstance(message, Refused):
            self._host.violate(f"{self._me} refused {self._about} of {self._sender}: {message.text}")
        else:
            self._host.tell(self._me, self._sender, message)


class Slot:
    """One actor: its behaviour, what has arrived for it, and whether it is about to wake."""

    def __init__(self, name: str, behaviour: Behaviour | None) -> None:
        self.name = name
        self.behaviour = behaviour
        self.inbox: deque[tuple[Asker | None, bytes | Message]] = deque()
        self.waking = False
        self.dead = False
        self.held_until = 0.0
        """It turns its loop no more before this; infinity: it hangs."""
        self.moved = Life()
        """The signs of life that it showed when it was held up."""
        self.hop = HOP_SECONDS
        """The longest time between what arrives and its turn."""
        self.epoch = 0
        """The highest that this life of ``election`` has spoken of."""
        self.gateway = ""
        """Whom it last spoke of."""


class SimulatedContext:
    """All that a behaviour may do to the world, here to the virtual one."""

    def __init__(self, host: Host, slot: Slot) -> None:
        self._host = host
        self._slot = slot
        self.random: Random = host.world.random
        self.asker: Asker | None = None

    def now_ms(self) -> int:
        return self._host.clock.now_ms()

    def monotonic(self) -> float:
        return self._host.world.time

    def since_boot(self) -> float:
        return self.monotonic()

    def tell(self, actor: str, message: Message) -> None:
        if not self._slot.dead:
            self._host.tell(self._slot.name, actor, message)

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        self._host.carry(self._slot.name, actor, payload, self.asker)

    def after(self, seconds: float, message: Message) -> None:
        # as in production: no bytes are made of it
        self._host.world.after(seconds, self._host.arrive, self._slot, None, message)

    def spawn(self, name: str) -> None:
        self._host.spawn(name)

    def kill(self, name: str) -> None:
        self._host.end_hung(name)

    def look(self, name: str) -> Life:
        return self._host.look(name)

    def busy(self, step: str) -> None:
        """Virtual time stands still meanwhile."""

    def log(self, level: int, text: str) -> None:
        self._host.world.note(f"{self._host.name} {self._slot.name} log {level} {text}")


class Host:
    """All actors of one node in one life."""

    def __init__(
        self,
        name: str,
        world: World,
        clock: Clock,
        build: Build,
        *,
        on_flush: Callable[[str], None],
        on_end: Callable[[Slot], None],
        on_crash: Callable[[], None],
    ) -> None:
        self.name = name
        self.world = world
        self.clock = clock
        self.slots: dict[str, Slot] = {}
        self.alive = True
        self._build = build
        self._on_flush = on_flush
        self._on_end = on_end
        self._on_crash = on_crash
        self._arrivals: dict[tuple[str, str], float] = {}

    def boot(self, keeper: Behaviour) -> None:
        """Start the node actor; it starts the others."""
        slot = self.slots["node"] = Slot("node", keeper)
        self._guarded(slot, lambda ctx: keeper.start(ctx))

    def behaviour(self, name: str) -> Behaviour | None:
        """The running behaviour of an actor, for looking at."""
        slot = self.slots.get(name)
        return None if slot is None else slot.behaviour

    def tell(self, sender: str, actor: str, message: Message) -> None:
        """From one actor of this node to another, through the codec."""
        slot = self.slots.get(sender)
        if isinstance(message, ElectionOutcome) and slot is not None:
            self._see_outcome(slot, message)
        if isinstance(message, Happened):
            self._note(actor, message)
            return
        asker = ActorAsker(self, actor, sender, message) if slot is not None else None
        self.carry(sender, actor, codec.encode(message), asker)

    def _note(self, actor: str, message: Happened) -> None:
        """A row of the audit log waits for the turn that its actor has anyway: it decides nothing, and no
        history of a seed depends on what is audited."""
        slot = self.slots.get(actor)
        if slot is not None and self.alive and not slot.dead:
            slot.inbox.append((None, codec.encode(message)))

    def carry(self, sender: str, actor: str, payload: bytes, asker: Asker | None) -> None:
        """An encoded message on its way; between two actors nothing is overtaken."""
        slot = self.slots.get(actor)
        if slot is None or not self.alive:
            return
        if sender in CHILDREN and actor in CHILDREN and self.world.random.random() < self.world.lane_loss:
            self.world.fault("lane-loss", f"{self.name} {sender}>{actor}")
            return
        due = self.world.time + self.world.random.random() * HOP_SECONDS
        due = max(due, self._arrivals.get((sender, actor), 0.0))
        self._arrivals[(sender, actor)] = due
        self.world.after(due - self.world.time, self.arrive, slot, asker, payload)

    def inject(self, actor: str, message: Message, asker: Asker | None = None) -> bool:
        """From a wire or a client; False when the actor is not there."""
        slot = self.slots.get(actor)
        if slot is None or slot.behaviour is None or not self.alive:
            return False
        self.arrive(slot, asker, message)
        return True

    def arrive(self, slot: Slot, asker: Asker | None, item: bytes | Message) -> None:
        """Something is in the inbox; the actor wakes soon."""
        if slot.dead or not self.alive:
            return
        slot.inbox.append((asker, item))
        if not slot.waking:
            slot.waking = True
            self.world.after(self.world.random.random() * slot.hop, self._wake, slot)

    def spawn(self, name: str) -> None:
        """Begin to start a child; messages to it wait meanwhile."""
        self.kill(name, told=False)
        slot = self.slots[name] = Slot(name, None)
        slot.waking = True
        self.world.after(SPAWN_SECONDS, self._wake, slot)

    def kill(self, name: str, *, told: bool = True) -> None:
        """End a child at once, with all it had not yet read."""
        slot = self.slots.pop(name, None)
        if slot is None:
            return
        slot.dead = True
        self._on_end(slot)
        if told:
            self.tell("host", "node", ChildExited(name))

    def look(self, name: str) -> Life:
        """As the kernel and a shared cell say it in production: an idle actor turns its loop, too."""
        slot = self.slots.get(name)
        if slot is None:
            return Life()
        if slot.held_until > self.world.time:
            return slot.moved
        return Life(int(self.world.time * 1000), "", "S", self.world.time)

    def hold(self, name: str, seconds: float, life: Life) -> bool:
        """An actor turns its loop no more for so long, and shows ``life``; False where there is none."""
        slot = self.slots.get(name)
        if slot is None or slot.behaviour is None or slot.held_until > self.world.time:
            return False
        slot.held_until, slot.moved = self.world.time + seconds, life
        return True

    def end_hung(self, name: str) -> None:
        """Its supervisor ends an actor; one that only waits may not be ended."""
        slot = self.slots.get(name)
        if slot is not None and slot.held_until < math.inf:
            self.violate(f"{name} was ended although it does not hang")
        self.world.reached["hung actor ended"] += 1
        self.kill(name)

    def end(self) -> None:
        """The whole node is gone."""
        self.alive = False
        for slot in self.slots.values():
            slot.dead = True
            self._on_end(slot)

    def violate(self, text: str) -> None:
        self.world.violate(f"{self.name}: {text}")

    def _see_outcome(self, slot: Slot, outcome: ElectionOutcome) -> None:
        """A node that begins to lead outbids every claim it knew of; while a cluster starts, rank is
        enough."""
        starting = outcome.epoch == 1 and slot.gateway != ""
        if outcome.gateway == self.name and outcome.epoch <= slot.epoch and not starting:
            self.violate(f"leads in epoch {outcome.epoch} after {slot.epoch}")
        if slot.gateway and outcome.gateway != slot.gateway:
            how = "lost" if not outcome.gateway else "changed by rank at the start" if starting else ""
            if not how and outcome.gateway == self.name:
                how = "taken over by rank"
            if how:
                self.world.reached[f"gateway {how}"] += 1
        slot.epoch, slot.gateway = max(slot.epoch, outcome.epoch), outcome.gateway

    def _wake(self, slot: Slot) -> None:
        if slot.dead or not self.alive:
            return
        if slot.held_until > self.world.time:
            if slot.held_until < math.inf:
                self.world.after(slot.held_until - self.world.time, self._wake, slot)
            return
        slot.waking = False
        self._guarded(slot, lambda ctx: self._drain(slot, ctx))

    def _drain(self, slot: Slot, ctx: SimulatedContext) -> None:
        while slot.inbox and not slot.dead:
            asker, item = slot.inbox.popleft()
            message = (
                codec.decode(item, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message
                if isinstance(item, bytes)
                else item
            )
            ctx.asker = asker
            if isinstance(message, Addresses) and slot.name != "node":
                continue  # for hosts, which need to know where the others are; names are enough here
            if slot.behaviour is not None:
                slot.behaviour.handle(message, ctx)
            elif isinstance(message, Configure):
                self._begin(slot, message, ctx)
        ctx.asker = None
        if slot.behaviour is not None and not slot.dead:
            slot.behaviour.flush(ctx)
            self._on_flush(slot.name)

    def _begin(self, slot: Slot, configure: Configure, ctx: SimulatedContext) -> None:
        """As in production: the first Configure makes the behaviour, which then says Ready."""
        slot.behaviour = self._build(slot.name, configure)
        slot.behaviour.start(ctx)
        ctx.tell("node", Ready(slot.name, 1, slot.behaviour.facts()))

    def _guarded(self, slot: Slot, work: Callable[[SimulatedContext], None]) -> None:
        """Run a behaviour behind the fence: what costs one message in production is a finding here."""
        try:
            work(SimulatedContext(self, slot))
        except CrashNow:
            self._on_crash()
        except Exception:  # noqa: BLE001 -- whatever a behaviour raises is the finding
            self.violate(f"{slot.name} raised\n{traceback.format_exc(limit=-6)}")


def _decoded(payload: bytes) -> Message:
    return codec.decode(payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message
