"""The Unix socket of a node: clients' requests in, answers out, both bounded."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Final

from entgldb.actors.frame_writer import FrameWriter
from entgldb.actors.side_loop import SideLoop
from entgldb.messages import codec
from entgldb.messages.client import Refused
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason, UnknownMessage
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import CLIENT_PENDING_BYTES_MAX, CLIENTS_MAX
from entgldb.messages.local import Dropped
from entgldb.messages.schema import Channel, Message

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "entgldb.sock"
SOCKET_PATH_BYTES_MAX: Final = 100
"""A longer path does not fit the kernel's address, and goes through its directory's descriptor."""
CLOSE_SECONDS_MAX: Final = 1.0
"""How long answers may take to be written when the node stops."""


class ClientSocket:
    """Listens in ``directory``; posts each request with an asker that writes the answer back.

    While more than CLIENT_PENDING_BYTES_MAX of requests wait for their answers, no socket is read.
    """

    def __init__(self, loop: SideLoop, directory: str | Path) -> None:
        self.loop = loop
        self._path = Path(directory) / SOCKET_NAME
        self._listener = _bind(self._path.parent)
        self._inode = self._path.stat().st_ino
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()
        # each counter has one writer, so that their difference needs no lock
        self._taken_bytes = self._answered_bytes = 0
        self._paused = False
        loop.at_end(self._end)
        loop.spawn(self._serve())

    def pending_bytes(self) -> int:
        """Requests handed to the actor and not answered yet."""
        return self._taken_bytes - self._answered_bytes

    def took(self, size: int) -> None:
        """Loop: a request of ``size`` bytes goes to the actor."""
        self._taken_bytes += size
        if not self._paused and self.pending_bytes() > CLIENT_PENDING_BYTES_MAX:
            self._paused = True
            for client in self._clients:
                client.read_on(False)
            self._read_on()  # the actor may have answered all meanwhile, and looked before we paused

    def answered(self, size: int) -> None:
        """Main thread: a request of ``size`` bytes has its answer."""
        self._answered_bytes += size
        if self._paused and self.pending_bytes() <= CLIENT_PENDING_BYTES_MAX // 2:
            self.loop.call(self._read_on)

    def opened(self, client: _Client) -> None:
        """Loop: a client has connected. One too many is told so and dropped."""
        self._clients.add(client)
        if len(self._clients) > CLIENTS_MAX:
            self.loop.post(Dropped(Reason.TOO_MANY_LINKS.value))
            client.refuse(0, EntglError(f"{CLIENTS_MAX} clients are connected", code=ErrorCode.IN_USE))
            client.close_when_written()
            return
        client.read_on(not self._paused)

    def closed(self, client: _Client) -> None:
        """Loop: a client has gone."""
        self._clients.discard(client)

    def _read_on(self) -> None:
        if self._paused and self.pending_bytes() <= CLIENT_PENDING_BYTES_MAX // 2:
            self._paused = False
            for client in self._clients:
                client.read_on(True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=self._listener)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._listener.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            log.debug("the socket file is gone already")
        for client in list(self._clients):
            client.close_when_written()
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                while self._clients:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            for client in list(self._clients):
                client.cut()


class _Client(FrameWriter):
    """One connection."""

    def __init__(self, owner: ClientSocket) -> None:
        super().__init__(owner.loop)
        self._owner = owner
        self._reader = FrameReader()
        self._lock = threading.Lock()
        self._descriptor = -1
        # each counter has one writer
        self._taken = self._answered = 0

    def answer(self, data: bytes, *, asked: bool) -> bool:
        """Main thread: one answer, or a push to a follower. False as in ``queue``.

        Where nobody else waits for an answer it is written here: waking the loop costs more than the write.
        """
        self._answered += asked
        with self._lock:
            rest = data if self._answered < self._taken else data[self._write_now(data) :]
            return not rest or self.queue(rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._owner.opened(self)

    def data_received(self, data: memoryview) -> None:
        if self._closing:
            return
        self._reader.feed(data)
        try:
            for payload in self._reader:
                self._take(payload)
        except ProtocolError as fault:
            log.warning("a client sent a malformed frame and was dropped: %s", fault.text)
            self._owner.loop.post(Dropped(Reason.MALFORMED.value))
            self.refuse(0, fault)
            self.close_when_written()

    def connection_lost(self, fault: Exception | None) -> None:
        with self._lock:  # asyncio closes the descriptor next
            self.drop_queue()
        self._owner.closed(self)

    def refuse(self, request_id: int, fault: EntglError) -> None:
        """Answer what the actor never saw."""
        refused = Refused(fault.code.value, fault.text, fault.hint, fault.definite)
        with self._lock:
            self.queue(frame(codec.encode(refused, request_id)))

    def _write_now(self, data: bytes) -> int:
        """How much of ``data`` the kernel took; nothing while something older waits to be written."""
        if self.over or self.waiting:
            return 0
        try:
            return os.write(self._descriptor, data)
        except OSError:  # full, or broken: the loop sees to it
            return 0

    def _take(self, payload: bytes) -> None:
        try:
            decoded = codec.decode(payload, Channel.CLIENT)
        except UnknownMessage as fault:
            self._owner.loop.post(Dropped(Reason.UNKNOWN_MESSAGE.value))
            self.refuse(fault.request_id, EntglError(fault.text, code=ErrorCode.UNSUPPORTED))
            return
        if decoded.trailing:
            self._owner.loop.post(Dropped(Reason.TRAILING_FIELD.value))
        asker = SocketAsker(self._owner, self, decoded.request_id, len(payload))
        self._taken += 1
        self._owner.took(len(payload))
        self._owner.loop.post(decoded.message, asker)


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
        """Main thread: write ``message`` back. A client that does not read is dropped."""
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
            self._owner.loop.post(Dropped(Reason.SLOW_READER.value))
            self._owner.loop.call(self._client.cut)


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
