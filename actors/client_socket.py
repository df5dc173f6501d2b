"""The Unix socket of a node: clients' requests in, answers out, both bounded.

All of it happens on the actor's main thread, from one epoll descriptor that Thespian watches: a second
thread that reads the sockets has to be woken and to hand over the interpreter for every single write.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

from entgldb.actors.behaviour import Asker
from entgldb.messages import codec
from entgldb.messages.client import Refused
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason, UnknownMessage
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import CLIENT_PENDING_BYTES_MAX, CLIENTS_MAX, LINK_QUEUE_BYTES_MAX
from entgldb.messages.local import Dropped
from entgldb.messages.schema import Channel, Message

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "entgldb.sock"
SOCKET_PATH_BYTES_MAX: Final = 100
"""A longer path does not fit the kernel's address, and goes through its directory's descriptor."""
CLOSE_SECONDS_MAX: Final = 1.0
"""How long answers may take to be written when the node stops."""
READ_BYTES: Final = 64 * 1024
"""At most: below what the C library takes from the kernel, and gives back, for every single read."""
READS_PER_TURN_MAX: Final = 16
"""Reads of one client before the others have their turn; the rest waits in the kernel."""
WRITE_BYTES: Final = 256 * 1024
"""Answers are joined to writes of about this size."""

Arrived = list[tuple[Asker | None, Message]]


class ClientSocket:
    """Listens in ``directory``; ``drain`` gives each request with an asker that writes the answer back.

    While more than CLIENT_PENDING_BYTES_MAX of requests wait for their answers, no client is read.
    """

    def __init__(self, directory: str | Path) -> None:
        self._path = Path(directory) / SOCKET_NAME
        self._listener = _bind(self._path.parent)
        self._inode = self._path.stat().st_ino
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._arrived: Arrived = []
        self._pending_bytes = 0
        self._paused = False

    def start(self) -> None:
        """From now on clients are let in."""
        self._poll.register(self._listener, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor that is readable while ``drain`` has something to do."""
        return self._poll.fileno()

    def drain(self) -> Arrived:
        """All that has arrived, in each client's order; and what waited goes out as far as it can."""
        for fd, events in self._poll.poll(0):
            client = self._clients.get(fd)
            if client is None:
                self._accept()
                continue
            if events & select.EPOLLOUT:
                client.write()
            if events & ~select.EPOLLOUT and not client.over:
                client.read()
        arrived, self._arrived = self._arrived, []
        return arrived

    def pending_bytes(self) -> int:
        """Requests handed to the actor and not answered yet."""
        return self._pending_bytes

    def took(self, size: int, message: Message, asker: Asker) -> None:
        """A request of ``size`` bytes goes to the actor."""
        self._arrived.append((asker, message))
        self._pending_bytes += size
        if not self._paused and self._pending_bytes > CLIENT_PENDING_BYTES_MAX:
            self._read_on(False)

    def answered(self, size: int) -> None:
        """A request of ``size`` bytes has its answer."""
        self._pending_bytes -= size
        if self._paused and self._pending_bytes <= CLIENT_PENDING_BYTES_MAX // 2:
            self._read_on(True)

    def drop(self, reason: Reason) -> None:
        """The actor counts what it never saw."""
        self._arrived.append((None, Dropped(reason.value)))

    def watch(self, client: _Client) -> None:
        """Wait for what the client may do next and we can take."""
        wanted = 0 if self._paused or client.closing else select.EPOLLIN
        wanted |= select.EPOLLOUT if client.waiting else 0
        if wanted != client.watched:
            client.watched = wanted
            self._poll.modify(client.fd, wanted)

    def closed(self, client: _Client) -> None:
        """A client has gone; closing its socket takes it out of the poll."""
        self._clients.pop(client.fd, None)

    @property
    def paused(self) -> bool:
        return self._paused

    def stop(self) -> None:
        """Write what was answered, then end every connection. Harmless when repeated."""
        if self._poll.closed:
            return
        self._listener.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            log.debug("the socket file is gone already")
        deadline = time.monotonic() + CLOSE_SECONDS_MAX
        for each in list(self._clients.values()):
            each.finish()
        while self._clients and (left := deadline - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left):
                if (client := self._clients.get(fd)) is not None:
                    client.write()
        for each in list(self._clients.values()):
            each.cut()
        self._poll.close()

    def _read_on(self, on: bool) -> None:
        self._paused = not on
        for client in self._clients.values():
            self.watch(client)

    def _accept(self) -> None:
        try:
            made, _ = self._listener.accept()
        except OSError:  # gone before it was taken
            return
        made.setblocking(False)
        client = self._clients[made.fileno()] = _Client(self, made)
        self._poll.register(made, 0)
        self.watch(client)
        if len(self._clients) > CLIENTS_MAX:
            self.drop(Reason.TOO_MANY_LINKS)
            client.refuse(0, EntglError(f"{CLIENTS_MAX} clients are connected", code=ErrorCode.IN_USE))
            client.finish()


class _Client:
    """One connection."""

    def __init__(self, owner: ClientSocket, made: socket.socket) -> None:
        self.fd = made.fileno()
        self.over = self.closing = False
        self.waiting = 0
        """Bytes answered and not yet taken by the kernel."""
        self.watched = 0
        """What the poll waits for."""
        self._owner = owner
        self._socket = made
        self._reader = FrameReader()
        self._frames: deque[bytes] = deque()
        self._unanswered = 0

    def read(self) -> None:
        """Take what has come, as far as it is this client's turn."""
        try:
            for _ in range(READS_PER_TURN_MAX):
                data = self._socket.recv(READ_BYTES)
                self._reader.feed(data)
                for payload in self._reader:
                    self._take(payload)
                if len(data) < READ_BYTES or self._owner.paused:
                    break
        except BlockingIOError:
            return
        except ProtocolError as fault:
            log.warning("a client sent a malformed frame and was dropped: %s", fault.text)
            self._owner.drop(Reason.MALFORMED)
            self.refuse(0, fault)
            self.finish()
            return
        except OSError:
            data = b""
        if not data:
            self.cut()

    def answer(self, data: bytes, *, asked: bool) -> bool:
        """One answer, or a push to a follower; False when too many bytes wait already.

        Written with all that waits as soon as nobody else on this connection is about to be answered.
        """
        self._unanswered -= asked
        if self.over or self.waiting + len(data) > LINK_QUEUE_BYTES_MAX:
            return False
        idle = not self.waiting
        self._frames.append(data)
        self.waiting += len(data)
        if not self._unanswered:
            self.write()
        elif idle:
            self._owner.watch(self)
        return True

    def write(self) -> None:
        """Hand the kernel what waits; where it takes no more, go on when it has room."""
        try:
            while self.waiting:
                data = self._joined()
                taken = self._socket.send(data)
                self.waiting -= taken
                if taken < len(data):
                    self._frames.appendleft(data[taken:])
                    break
        except BlockingIOError:
            self._frames.appendleft(data)
        except OSError:
            self.cut()
            return
        if self.closing and not self.waiting:
            self.cut()
        else:
            self._owner.watch(self)

    def refuse(self, request_id: int, fault: EntglError) -> None:
        """Answer what the actor never saw."""
        refused = Refused(fault.code.value, fault.text, fault.hint, fault.definite)
        self.answer(frame(codec.encode(refused, request_id)), asked=False)

    def finish(self) -> None:
        """Read no more; close as soon as nothing waits any more."""
        self.closing = True
        if not self.over:
            self.write()

    def cut(self) -> None:
        """Close at once."""
        if not self.over:
            self.over = True
            self.waiting = 0
            self._frames.clear()
            self._owner.closed(self)
            self._socket.close()

    def _joined(self) -> bytes:
        if len(self._frames) == 1:
            return self._frames.popleft()
        frames, size = [], 0
        while self._frames and size < WRITE_BYTES:
            frames.append(self._frames.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    def _take(self, payload: bytes) -> None:
        try:
            decoded = codec.decode(payload, Channel.CLIENT)
        except UnknownMessage as fault:
            self._owner.drop(Reason.UNKNOWN_MESSAGE)
            self.refuse(fault.request_id, EntglError(fault.text, code=ErrorCode.UNSUPPORTED))
            return
        if decoded.trailing:
            self._owner.drop(Reason.TRAILING_FIELD)
        self._unanswered += 1
        asker = SocketAsker(self._owner, self, decoded.request_id, len(payload))
        self._owner.took(len(payload), decoded.message, asker)


class SocketAsker:
    """Whoever waits at the other end of the socket for one answer, or follows what is pushed."""

    __slots__ = ("_client", "_owner", "_request_id", "_size")

    def __init__(self, owner: ClientSocket, client: _Client, request_id: int, size: int) -> None:
        self._owner = owner
        self._client = client
        self._request_id = request_id
        self._size = size

    @property
    def closed(self) -> bool:
        """The client has gone; whoever pushes to it may forget it."""
        return self._client.over

    def answer(self, message: Message) -> None:
        """Write ``message`` back. A client that does not read is dropped."""
        asked = bool(self._size)
        if asked:
            self._owner.answered(self._size)
            self._size = 0
        try:
            data = frame(codec.encode(message, self._request_id))
        except ProtocolError as fault:
            told = Refused(ErrorCode.TOO_LARGE.value, f"the answer is too large: {fault.text}")
            data = frame(codec.encode(told, self._request_id))
        if not self._client.answer(data, asked=asked) and not self._client.over:
            self._owner.drop(Reason.SLOW_READER)
            self._client.cut()


def _bind(directory: Path) -> socket.socket:
    """A listener for the owner alone. A socket file left by a crash is replaced: the directory is locked."""
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    mask = os.umask(0o177)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = str(directory.absolute() / SOCKET_NAME)
        short = len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX
        made.bind(path if short else f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        made.listen(128)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    return made
