"""The host of production: carries a behaviour inside a Thespian actor.

It decodes, dispatches, carries out and fences errors; it decides nothing about the protocol. One
Thespian class per actor name, so that a process list tells them apart.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.actors.behaviour import Asker, Behaviour, Caller, Edge, Life, refused
from entgldb.actors.host import build  # host_wire before thespian: it binds to loopback
from entgldb.actors.host import wire as host_wire
from entgldb.actors.host.cell import Cell, of_process, parent_of
from entgldb.actors.host.children import Children, name_process
from entgldb.actors.host.clocks import OfThisMachine
from entgldb.actors.host.lane import Back, Lane
from entgldb.actors.host.log import LogFile, use_log
from entgldb.actors.host.poll import Selectors
from entgldb.actors.host.timers import Timers
from entgldb.actors.host.wire import ANSWER, ASK, Envelope
from entgldb.actors.node.behaviour import NodeKeeper
from entgldb.actors.node.supervision import ABOVE, BEAT_SECONDS
from entgldb.messages import codec
from entgldb.messages.client import Reload
from entgldb.messages.errors import EntglError, ErrorCode, NoAnswerError, Reason, UnknownMessage
from entgldb.messages.limits import LOCAL_FRAME_BYTES_MAX
from entgldb.messages.local.actors import (
    Addresses,
    Boot,
    ChildExited,
    Configure,
    Ready,
    StopNow,
    Stopped,
    Well,
)
from entgldb.messages.schema import Channel, Message

from thespian.actors import Actor, ActorExitRequest  # isort: skip

FORWARD_TIMEOUT = 30.0
"""Seconds a forwarded question may stay without an answer."""
PARKED_MAX = 200
"""Messages kept for an actor that is being started again; the oldest go first."""
LAUNCHER_CODES = {Stopped: b"S", Reload: b"L", Well: b"W"}
"""The bytes that ``tell("launcher", ...)`` writes into the launcher's pipe."""


class _Question(NamedTuple):
    """One that was forwarded, and has no answer yet."""

    asker: Asker | None
    actor: str
    until: float


class Inherited:
    """The facts that the launcher sets before the first fork, and that every actor process finds set."""

    directory = Path()
    launcher_pipe = -1
    cells: Final[dict[str, Cell]] = {name: Cell() for name in build.ACTORS}


class Host(OfThisMachine):
    """One actor: the behaviour, its edge, its timers, and whom it knows."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.asker: Asker | None = None
        self._actor = actor
        self._log = LogFile(Inherited.directory / "log" / "entgldb.log", name)
        self._behaviour: Behaviour | None = None
        self._edge: Edge | None = None
        self._addresses: dict[str, Any] = {}
        self._handles: dict[str, bytes] = {}
        """Of the children that serve: each of their lives has another."""
        self._born: dict[str, Any] = {}
        """Addresses of children that nothing was told yet."""
        self._pids: dict[str, int] = {}
        self._parked: dict[str, deque[bytes]] = {}
        self._asked: dict[int, _Question] = {}
        """In the order of their ends, since all have the same time."""
        self._timers: Timers[Message] = Timers()
        self.within = False
        self._numbers = 0
        self._to_send = False
        self._children = Children()
        self._cell = Inherited.cells.get(name) or Cell()
        self._turned_at = time.monotonic()
        self._lane: Lane | None = None
        use_log(self._log)
        name_process(name)
        host_wire.check_listeners()
        Selectors.waiter = self

    # --- Context -------------------------------------------------------------------------------

    def tell(self, actor: str, message: Message) -> None:
        if actor == "launcher":
            with contextlib.suppress(OSError):  # the launcher is gone, and we with it
                os.write(Inherited.launcher_pipe, LAUNCHER_CODES[type(message)])
        elif actor in self._born:
            # its configuration; all else waits until it serves, so that nothing overtakes it
            self.send(self._born.pop(actor), Envelope(ASK, codec.encode(message)))
        else:
            self._send_to(actor, codec.encode(message))

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        asker = self.asker
        try:
            inner = codec.decode(payload, Channel.LOCAL).message
        except EntglError as fault:
            self.answer(asker, refused(fault))
            return
        if actor not in self._addresses and actor not in self._children.names() and actor != self.name:
            text = f"{actor} is not here now"
            self.answer(asker, refused(EntglError(text, code=ErrorCode.TIMEOUT, hint="try again")))
            return
        number = self._number()
        self._asked[number] = _Question(asker, actor, self.monotonic() + FORWARD_TIMEOUT)
        self._send_to(actor, codec.encode(inner, number))

    def after(self, seconds: float, message: Message) -> None:
        self._timers.add(self.monotonic() + max(0.0, seconds), message)

    def spawn(self, name: str) -> None:
        Inherited.cells[name].turn()
        self._born[name] = self._children.spawn(self._actor, name, CLASSES[name])

    def kill(self, name: str) -> None:
        self._children.kill(name)

    def look(self, name: str) -> Life:
        if name in ABOVE:
            admin = os.getppid()
            return Life(0, "", *of_process(admin if name == "admin" else parent_of(admin)))
        return Inherited.cells[name].life(self._children.pid(name))

    def busy(self, step: str) -> None:
        self._cell.busy(step)

    def log(self, level: int, text: str) -> None:
        if level >= (logging.INFO if self._behaviour is None else self._behaviour.level):
            self._log.line(level, text)

    # --- what Thespian calls -------------------------------------------------------------------

    def receive(self, message: Any, sender: Any) -> None:
        """Take one Thespian message, then all that is ready, then flush. Never raises."""
        with self._served():
            self._cell.turn()
            if isinstance(message, Envelope):
                back = partial(self._answer_to, sender) if message.kind == ASK else None
                self._fenced(self._take, message.payload, back, sender)
            elif isinstance(message, ActorExitRequest):
                self._fenced(self._close)
                Selectors.waiter = None
                return
            self._turn()

    def fds(self) -> list[int]:
        """All that this actor waits for beside Thespian."""
        edges = [edge.fileno() for edge in (self._edge, self._lane) if edge is not None]
        return edges + self._children.fds()

    def due(self) -> float:
        """When the next timer is due. An idle actor turns its loop all the same, for its supervisor."""
        return min(self._timers.next(), self._next_end(), self._turned_at + BEAT_SECONDS)

    def turn(self) -> bool:
        """Serve what is ready; whether something is to leave by Thespian."""
        with self._served():
            self._turn()
        return self._to_send

    def forked(self) -> None:
        """In a process just forked: let go of what is the parent's."""
        if self._lane is not None:
            self._lane.close()

    @contextlib.contextmanager
    def _served(self) -> Iterator[None]:
        """Thespian may wait meanwhile, for a handler: the actor has no other turn within this one."""
        self.within, self._to_send = True, False
        try:
            yield
        finally:
            self.within = False

    def _turn(self) -> None:
        """All that timers, children, lane and edge have, then flush."""
        self._turned_at = self.monotonic()
        for due in self._timers.pop_due(self._turned_at):
            self._fenced(self._dispatch, due, None)
        self._fenced(self._end_questions)
        exited = self._children.exited()
        if self._lane is not None:
            # whatever a child has said comes before its end
            for payload, back in self._lane.turn():
                self._fenced(self._take, payload, back)
        for name in exited:
            self._born.pop(name, None)
            if self._handles.pop(name, None) is not None:
                self._meet(self._handles)
            self._forget_asked({name})
            self._dispatch(ChildExited(name), None)
        if self._edge is not None:
            for asker, arrived in self._edge.drain():
                self._dispatch(arrived, asker)
        if self._behaviour is not None:
            self._behaviour.went("flush", well=self._fenced(self._behaviour.flush, self))
        self._cell.turn()
        if self._behaviour is not None and self._behaviour.hopeless:
            self._end()

    def send(self, address: Any, message: Any) -> None:
        """To any Thespian address."""
        self._to_send = True
        self._actor.send(address, message)

    # --- inside ----------------------------------------------------------------------------------

    def _fenced(self, function: Any, *arguments: Any) -> bool:
        """Thespian runs a handler that raised once more with the same message: none may raise."""
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 -- the fence
            self._log.line(logging.ERROR, traceback.format_exc())
            if self._behaviour is not None:
                self._behaviour.count(Reason.HANDLER_FAILED)
            return False
        return True

    def _take(self, payload: bytes, back: Back | None, sender: Any = None) -> None:
        """One message; ``back`` takes its answer, and is None where it is an answer itself."""
        try:
            decoded = codec.decode(payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX)
        except EntglError as fault:
            unknown = isinstance(fault, UnknownMessage)
            self._count(Reason.UNKNOWN_MESSAGE if unknown else Reason.MALFORMED)
            self._log.line(logging.WARNING, f"a message was refused: {fault.text}")
            return
        number = decoded.request_id
        if back is None:
            question = self._asked.pop(number, None)
            self.answer(None if question is None else question.asker, decoded.message)
            return

        def answer(message: Message) -> None:
            back(codec.encode(message, number))

        self._local(decoded.message, Caller(answer) if number else None, sender)

    def _answer_to(self, address: Any, payload: bytes) -> None:
        self.send(address, Envelope(ANSWER, payload))

    def _local(self, message: Message, asker: Asker | None, sender: Any) -> None:
        """Messages meant for the host itself, or for host and behaviour both."""
        if isinstance(message, Addresses):
            before, self._pids = self._pids, message.pids
            self._forget_asked({name for name, pid in before.items() if self._pids.get(name) != pid})
            self._meet(message.actors)
        elif isinstance(message, Configure) and self._behaviour is None:
            self._addresses["node"] = sender
            self._begin(message)
        elif isinstance(message, Boot) and self._behaviour is None:
            self._begin_node(message, asker)
        else:
            if isinstance(message, Ready):
                self._handles[message.name] = str(message.facts["address"]).encode()
                self._meet(self._handles)
            if isinstance(message, Configure) and self._behaviour is not None:
                self._behaviour.level = logging.getLevelName(message.log_level)
            self._dispatch(message, asker)
            if isinstance(message, StopNow):
                self._close()

    def _dispatch(self, message: Message, asker: Asker | None) -> None:
        self.asker = asker
        self._cell.turn()
        if self._behaviour is None:
            text = f"{self.name} is starting"
            self.answer(asker, refused(EntglError(text, code=ErrorCode.TIMEOUT, hint="try again")))
        else:
            well = self._fenced(self._behaviour.handle, message, self)
            self._behaviour.went(type(message).__name__, well=well)
            if not well:
                text = f"{self.name} failed on {message}; its log tells why"
                self.answer(asker, refused(EntglError(text, definite=False)))
        self.asker = None

    def _begin(self, configure: Configure) -> None:
        """Build the behaviour; where that fails, say why and let the supervisor start us again."""
        self.busy("its start")
        try:
            self._behaviour, self._edge = build.build(configure)
            self._behaviour.level = logging.getLevelName(configure.log_level)
            if self._edge is not None:
                self._edge.start()
            self._open_lane()
            self._meet({"node": _handle(self._addresses["node"]).encode()})
            self._behaviour.start(self)
        except Exception as fault:  # noqa: BLE001 -- told to the supervisor, then we end
            self._give_up(fault)
            return
        facts = {**self._behaviour.facts(), "address": _handle(self._actor.myAddress)}
        self.tell("node", Ready(self.name, os.getpid(), facts))

    def _give_up(self, fault: Exception) -> None:
        self._log.line(logging.CRITICAL, "".join(traceback.format_exception(fault)))
        if not isinstance(fault, EntglError):
            fault = EntglError(f"{self.name} cannot start: {type(fault).__name__} {fault}")
        self.tell("node", refused(fault))
        self._behaviour = None
        self._close()
        self.send(self._actor.myAddress, ActorExitRequest())

    def _begin_node(self, boot: Boot, asker: Asker | None) -> None:
        keeper = NodeKeeper(boot.settings)
        keeper.identity = {"pid": os.getpid(), "address": _handle(self._actor.myAddress)}
        self._behaviour = keeper
        self._addresses["node"] = self._actor.myAddress
        self._open_lane()
        self._fenced(keeper.start, self)
        self._dispatch(boot, asker)

    def _open_lane(self) -> None:
        self._lane = Lane(Inherited.directory, self.name, LOCAL_FRAME_BYTES_MAX, self._dropped)

    def _meet(self, handles: Mapping[str, bytes]) -> None:
        """The actors that serve now, as node has them; one that is not in it is being started again."""
        known = {name: host_wire.address_of(int(handle)) for name, handle in handles.items()}
        self._addresses = {**known, "node": self._addresses["node"]}
        if self._lane is not None:
            self._lane.meet({name: handle for name, handle in handles.items() if name != self.name})
        for name in [name for name in self._parked if name in self._addresses]:
            for payload in self._parked.pop(name):
                self._send_to(name, payload)

    def _forget_asked(self, gone: set[str]) -> None:
        """Questions to an actor that is gone have no answer: whoever asked may ask the next one at once."""
        for number in [number for number, one in self._asked.items() if one.actor in gone]:
            asker, actor, _ = self._asked.pop(number)
            text = f"{actor} ended before it answered"
            self.answer(asker, refused(NoAnswerError(text, hint="try again", definite=False)))

    def _next_end(self) -> float:
        """When the first question is given up; infinite where there is none."""
        return next((one.until for one in self._asked.values()), math.inf)

    def _end_questions(self) -> None:
        while self._next_end() <= self._turned_at:
            asker, actor, _ = self._asked.pop(next(iter(self._asked)))
            self.answer(asker, refused(NoAnswerError(f"{actor} did not answer", definite=False)))

    def _send_to(self, name: str, payload: bytes) -> None:
        if self._lane is not None and self._lane.send(name, payload):
            return
        address = self._addresses.get(name)
        if address is not None:
            self.send(address, Envelope(ASK, payload))
            return
        parked = self._parked.setdefault(name, deque())
        parked.append(payload)
        if len(parked) > PARKED_MAX:
            parked.popleft()
            self._dropped()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _dropped(self) -> None:
        self._count(Reason.UNREACHABLE)

    def _count(self, reason: Reason) -> None:
        if self._behaviour is not None:
            self._behaviour.count(reason)

    def _end(self) -> None:
        """End as if killed: an actor that depends on unfinished work asks again."""
        self._log.line(logging.CRITICAL, f"{self.name} fails on all of a kind: it ends, to be started anew")
        os._exit(1)

    def _close(self) -> None:
        edge, self._edge = self._edge, None
        if edge is not None:
            edge.stop()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()


def _handle(address: Any) -> str:
    """As the actors of this node know it."""
    return str(host_wire.port_of(address))


class _HostActor(Actor):  # type: ignore[misc]  # thespian is untyped
    """The parts that all six actors have in common."""

    host_name = ""
    host: Host | None = None

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 -- Thespian's name
        if self.host is None:
            self.host = Host(self.host_name, self)
        self.host.receive(message, sender)


class NodeActor(_HostActor):
    """Supervisor of the others."""

    host_name = "node"


class StoreActor(_HostActor):
    """The only writer of the file."""

    host_name = "store"


class OplogActor(_HostActor):
    """History, and what of it may go."""

    host_name = "oplog"


class SyncActor(_HostActor):
    """Links to the LAN, or the cloud's listener."""

    host_name = "sync"


class ElectionActor(_HostActor):
    """Elects the gateway."""

    host_name = "election"


class CloudGatewayActor(_HostActor):
    """Links to cloud peers."""

    host_name = "gateway"


CLASSES: dict[str, type[_HostActor]] = {
    cls.host_name: cls
    for cls in (NodeActor, StoreActor, OplogActor, SyncActor, ElectionActor, CloudGatewayActor)
}
