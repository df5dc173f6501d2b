"""Starting a node's actor system, and attaching to one that runs. The launcher's and the CLI's side.

The admin stays a child of the launcher and every process dies with the one that forked it, so that
nothing is left behind whoever is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from entgldb.actors.behaviour import Life
from entgldb.actors.frame_room import with_room
from entgldb.actors.host import wire as host_wire  # before thespian: it binds to loopback
from entgldb.actors.host.actor import Inherited, NodeActor
from entgldb.actors.host.children import child_pids, die_with_parent
from entgldb.actors.host.log import LogFile, use_log
from entgldb.actors.host.wire import ANSWER, ASK, Envelope, WireError
from entgldb.messages import codec
from entgldb.messages.client import WhoIs
from entgldb.messages.errors import NoAnswerError, NoNodeError
from entgldb.messages.limits import LOCAL_FRAME_BYTES_MAX
from entgldb.messages.local.actors import Addresses, Boot
from entgldb.messages.schema import Channel, Message
from entgldb.messages.settings import NodeSettings

from thespian.actors import ActorSystem, InvalidActorAddress  # isort: skip
from thespian.system import multiprocCommon, systemBase  # isort: skip

CREATE_SECONDS_MAX = 5.0
POLL = 0.01
"""Seconds between looks at something only the kernel or Thespian can tell."""
_PATCHED: tuple[tuple[object, str], ...] = (
    (multiprocCommon, "startAdmin"),
    (multiprocCommon, "startChild"),
    (multiprocCommon, "_startLogger"),
    (multiprocCommon, "EndpointConnected"),
    (multiprocCommon, "TransmitIntent"),
    (multiprocCommon, "actorStartupFailed"),
    (multiprocCommon.MultiProcAdmin, "h_LogRecord"),
    (multiprocCommon.MultiProcAdmin, "_activate"),
    (multiprocCommon.multiprocessCommon, "_startAdmin"),
    (systemBase, "MAX_TELL_PERIOD"),
)
_RESERVED: list[socket.socket] = []
"""Bound, never listening: in the launcher until its admin serves, in the admin until it begins."""
_ONE_SYSTEM = threading.RLock()
"""The key is one per process: two nodes are talked to one after the other."""


def _dying(original: Callable[..., None]) -> Callable[..., None]:
    def start(*arguments: Any) -> None:
        die_with_parent()
        with_room(lambda: original(*arguments))

    return start


def _start_admin(original: Callable[..., None]) -> Callable[..., None]:
    """Thespian's admin forks once more to leave its parent; ours stays the launcher's child."""

    def start(*arguments: Any) -> None:
        die_with_parent()
        host_wire.close_listeners()
        let_go()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        fork, limit = os.fork, resource.setrlimit

        def stay() -> int:
            os.fork, resource.setrlimit = fork, limit
            return 0

        # its limit of 0 for dumps would let them go to a program: the launcher's is better
        os.fork, resource.setrlimit = stay, lambda *_: None
        original(*arguments)

    return start


def _keep_log(_transport_class: Any, transport: Any, admin: Any, *_settings: Any) -> None:
    """Thespian's admin starts a process that writes its log. Ours writes the few lines there are itself."""
    use_log(LogFile(Inherited.directory / "log" / "entgldb.log", "thespian"))
    admin.asLogger = transport.myAddress
    # as Thespian goes on once that process has answered
    connected = multiprocCommon.TransmitIntent(admin.addrOfStarter, multiprocCommon.EndpointConnected(0))
    transport.scheduleTransmit(None, connected.addCallback(onFailure=multiprocCommon.actorStartupFailed))
    admin._activate()


def _take_record(_admin: Any, envelope: Any) -> bool:
    """A line of an actor that has not got as far as its own log."""
    logging.root.handle(envelope.message)
    return True


def _patch() -> None:
    host_wire.require(_PATCHED)
    multiprocCommon.startAdmin = _start_admin(multiprocCommon.startAdmin)
    multiprocCommon.startChild = _dying(multiprocCommon.startChild)
    multiprocCommon._startLogger = _keep_log
    multiprocCommon.MultiProcAdmin.h_LogRecord = _take_record


_patch()


class NodeSystem:
    """The actor system of one node, in the process that launches it."""

    def __init__(self, directory: Path, pipe: int) -> None:
        """``pipe``: where the node actor writes one byte when it has stopped or wants a reload."""
        Inherited.directory, Inherited.launcher_pipe = directory, pipe
        host_wire.use_key(host_wire.load_key(directory))
        os.environ["THESPLOG_FILE"] = str(directory / "log" / "thespian.log")
        self.port = reserve_port()
        before = child_pids(os.getpid())
        self._system = ActorSystem(
            "multiprocTCPBase",
            capabilities={"Admin Port": self.port, "Process Startup Method": "fork"},
            transientUnique=True,
        )
        let_go()
        (self.admin_pid,) = child_pids(os.getpid()) - before
        self._node: Any = None
        self.node_pid = self.node_port = 0
        self._before: set[int] | None = None
        """Processes from before an attempt that created no node in time; a node that came late is taken."""
        self.check()

    def check(self) -> None:
        """Raise WireError unless the admin is ours and nothing listens beyond loopback."""
        host_wire.check_listeners()
        for pid in (self.admin_pid, *child_pids(self.admin_pid)):
            host_wire.check_listeners(pid)
        if ("127.0.0.1", self.port) not in host_wire.listeners(self.admin_pid):
            raise WireError(f"another process took port {self.port}", hint="start the node again")

    def boot(self, settings: NodeSettings) -> None:
        """Create the node actor and send it Boot; ``poll`` gives its answer."""
        before = self._before = child_pids(self.admin_pid) if self._before is None else self._before
        deadline = time.monotonic() + CREATE_SECONDS_MAX
        while True:
            # Until the admin has noticed a death it gives back the address of the dead.
            self._node = self._system.createActor(NodeActor, globalName="node")
            self.node_port = host_wire.port_of(self._node)
            listening = (host_wire.LOOPBACK, self.node_port)
            fresh = [
                pid for pid in child_pids(self.admin_pid) - before if listening in host_wire.listeners(pid)
            ]
            if fresh:
                break
            if time.monotonic() > deadline:
                raise NoAnswerError("the actor system starts no node actor")
            time.sleep(POLL)
        (self.node_pid,) = fresh
        self._before = None
        self.tell(Boot(settings))

    def tell(self, message: Message, number: int = 1) -> None:
        """To the node actor; its answer comes by ``poll``."""
        self._system.tell(self._node, Envelope(ASK, codec.encode(message, number)))

    def mention(self, message: Message, seconds: float) -> bool:
        """As ``tell``, of what may be said later as well: whether it was taken within so long."""
        patience, systemBase.MAX_TELL_PERIOD = systemBase.MAX_TELL_PERIOD, timedelta(seconds=seconds)
        try:
            self.tell(message, 0)
        except Exception:  # noqa: BLE001 -- of the transport: the node actor is gone, or stopped
            return False
        finally:
            systemBase.MAX_TELL_PERIOD = patience
        return True

    def poll(self, seconds: float) -> Message | None:
        """The next answer of the node actor within ``seconds``."""
        answer = self._system.listen(seconds)
        if not isinstance(answer, Envelope) or answer.kind != ANSWER:
            return None
        return codec.decode(answer.payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message

    def life(self) -> Life:
        """The signs of life that the node actor shows."""
        return Inherited.cells["node"].life(self.node_pid)

    def kill(self) -> None:
        """End every process of the system at once: the admin's death is the death of all."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.admin_pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.admin_pid, 0)


def reserve_port() -> int:
    """A port that the kernel gives to nobody else until the admin, which may share it, listens there."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((host_wire.LOOPBACK, 0))
    _RESERVED.append(taken)
    return int(taken.getsockname()[1])


def let_go() -> None:
    """Close what holds the reserved port."""
    while _RESERVED:
        _RESERVED.pop().close()


class Attached:
    """A running node's actors, reached by Thespian's own ask and tell."""

    def __init__(self, system: Any, node: Any) -> None:
        self._system = system
        self._node = node

    def ask(self, actor: str, message: Message, timeout: float) -> Message:
        """The answer, or NoAnswerError."""
        deadline = time.monotonic() + timeout
        address = self._find(actor, deadline)
        return self._exchange(address, actor, message, deadline)

    def tell(self, actor: str, message: Message, timeout: float) -> None:
        """Hand over ``message``; nobody says what became of it."""
        address = self._find(actor, time.monotonic() + timeout)
        self._system.tell(address, Envelope(ASK, codec.encode(message)))

    def _find(self, actor: str, deadline: float) -> Any:
        if actor == "node":
            return self._node
        while True:
            found = self._exchange(self._node, "node", WhoIs(), deadline)
            handle = found.actors.get(actor) if isinstance(found, Addresses) else None
            if handle is not None:
                return host_wire.address_of(int(handle))
            if time.monotonic() > deadline:
                raise NoAnswerError(f"{actor} is not serving", hint="entgldb status")
            time.sleep(POLL)

    def _exchange(self, address: Any, actor: str, message: Message, deadline: float) -> Message:
        number = secrets.randbits(48) | 1
        answer = self._system.ask(
            address, Envelope(ASK, codec.encode(message, number)), max(0.001, deadline - time.monotonic())
        )
        while isinstance(answer, Envelope) and answer.kind == ANSWER:
            decoded = codec.decode(answer.payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX)
            if decoded.request_id == number:
                return decoded.message
            answer = self._system.listen(max(0.001, deadline - time.monotonic()))
        raise NoAnswerError(f"{actor} did not answer in time", hint="entgldb status", definite=False)


@contextlib.contextmanager
def attached(directory: Path, admin_port: int, node_port: int) -> Iterator[Attached]:
    """Attach to the node of ``directory``. Raises NoNodeError; never starts one."""

    def refuse(*_arguments: Any) -> None:
        raise NoNodeError(f"no node is running in {directory}", hint=f"entgldb start -d {directory}")

    with _ONE_SYSTEM:
        host_wire.use_key(host_wire.load_key(directory))
        base = multiprocCommon.multiprocessCommon
        start, base._startAdmin = base._startAdmin, refuse
        try:
            system = ActorSystem(
                "multiprocTCPBase", capabilities={"Admin Port": admin_port}, transientUnique=True
            )
        except InvalidActorAddress as fault:
            # its process is there and takes the connection, but is stopped
            _close_sockets(_half_made(fault).transport)
            raise NoAnswerError("the actor system's admin does not answer", hint="entgldb status") from None
        finally:
            base._startAdmin = start
        try:
            yield Attached(system, host_wire.address_of(node_port))
        finally:
            # Thespian would leave them to the collector
            _close_sockets(system._systemBase.transport)


def _half_made(fault: InvalidActorAddress) -> Any:
    """The inside of a system whose making has failed: nobody else refers to it."""
    frame = fault.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return None if frame is None else frame.tb_frame.f_locals["self"]


def _close_sockets(transport: Any) -> None:
    open_sockets = [taken.socket for taken in transport._openSockets.values()]
    sending = [*transport._transmitIntents.values(), *transport._waitingTransmits]
    open_sockets += [intent.socket for intent in sending if hasattr(intent, "socket")]
    open_sockets.append(transport.socket)
    transport._openSockets.clear()
    transport.close()
    for taken in open_sockets:
        taken.close()
