"""Lanes: Unix sockets in the node's own directory that carry the messages between its actors.

Thespian creates, supervises, addresses and answers; but a message by its transport costs the sender 0.3 ms
and arrives 0.8 to 1.2 ms later. A lane takes a tenth of that: one stream in each direction, watched by one
epoll descriptor, which the host waits for. The directory belongs to the owner alone (0700), and the
kernel names the user at the other end, so a lane needs no key. If no lane leads to an actor, Thespian
carries.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.errors import ProtocolError
from entgldb.messages.framing import PREFIX_BYTES, FrameReader, FrameWriter

LANE_FOLDER: Final = "lane"
READ_BYTES: Final = 64 * 1024
"""At most: below what the C library takes from the kernel, and gives back, for every single read."""
READS_PER_TURN_MAX: Final = 32
"""Reads of one lane before the actor looks at its other messages; the rest waits in the kernel."""
BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the kernel for each lane; it may give less."""
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Told to one actor and not yet taken by the kernel; beyond it messages are dropped and counted."""
ROOT: Final = 0
"""The user id that may read the directory anyhow."""
_CREDENTIALS: Final = struct.Struct("3i")


class Lane:
    """One actor's ends of all its lanes: a listener others connect to, and a stream to each of them."""

    def __init__(self, directory: Path, name: str, frame_bytes_max: int, dropped: Callable[[], None]) -> None:
        """Listen for the others. ``dropped`` is called for each message that finds a full queue."""
        folder = directory / LANE_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._frame_bytes_max = frame_bytes_max
        self._dropped = dropped
        self._poll = select.epoll()
        self._listener = self._listen(name)
        self._outward: dict[str, _Outward] = {}
        self._inward: dict[int, _Inward] = {}

    def fileno(self) -> int:
        """Readable while ``turn`` has something to do."""
        return self._poll.fileno()

    def meet(self, actors: Mapping[str, bytes]) -> None:
        """Have a lane to each of ``actors`` (name -> what differs in its next life), where it listens."""
        for name, lane in list(self._outward.items()):
            if actors.get(name) != lane.life:
                self._hang_up(name)
        for name, life in actors.items():
            if name not in self._outward:
                self._connect(name, life)

    def send(self, name: str, payload: bytes) -> bool:
        """Hand one message over; False where no lane leads to ``name``."""
        lane = self._outward.get(name)
        if lane is None:
            return False
        idle = not lane.writer.waiting
        if not lane.writer.put(len(payload).to_bytes(PREFIX_BYTES, "big"), payload):
            self._dropped()
            return True
        return self._push(name, lane) if idle else True

    def turn(self) -> list[bytes]:
        """All that has arrived, in each sender's order; and what waited goes out as far as it can."""
        arrived: list[bytes] = []
        for fd, _ in self._poll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._inward:
                arrived += self._read(fd)
            else:
                for name, lane in list(self._outward.items()):
                    if lane.socket.fileno() == fd:
                        self._push(name, lane)
        return arrived

    def close(self) -> None:
        """End every lane. Harmless when repeated."""
        if self._poll.closed:
            return
        for name in list(self._outward):
            self._hang_up(name)
        for lane in self._inward.values():
            lane.socket.close()
        self._inward.clear()
        self._listener.close()
        self._poll.close()
        os.close(self._folder)

    def _path(self, name: str) -> str:
        """Short, however long the directory's name is: the kernel takes 107 bytes."""
        return f"/proc/self/fd/{self._folder}/{name}"

    def _listen(self, name: str) -> socket.socket:
        Path(self._path(name)).unlink(missing_ok=True)  # of a life before; the directory is locked
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        listener.bind(self._path(name))
        listener.listen()
        self._poll.register(listener, select.EPOLLIN)
        return listener

    def _connect(self, name: str, life: bytes) -> None:
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            made.connect(self._path(name))
        except OSError:  # it has no lane, as the node actor
            made.close()
            return
        self._outward[name] = _Outward(made, life)

    def _accept(self) -> None:
        try:
            made, _ = self._listener.accept()
        except OSError:  # gone before it was taken
            return
        facts = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(facts)[1] not in (os.getuid(), ROOT):
            made.close()
            return
        made.setblocking(False)
        self._inward[made.fileno()] = _Inward(made, FrameReader(self._frame_bytes_max))
        self._poll.register(made, select.EPOLLIN)

    def _read(self, fd: int) -> list[bytes]:
        lane = self._inward[fd]
        arrived: list[bytes] = []
        try:
            for _ in range(READS_PER_TURN_MAX):
                data = lane.socket.recv(READ_BYTES)
                lane.frames.feed(data)
                arrived += lane.frames
                if len(data) < READ_BYTES:
                    break
        except BlockingIOError:
            return arrived
        except (OSError, ProtocolError):
            data = b""
        if not data:
            del self._inward[fd]
            lane.socket.close()
        return arrived

    def _push(self, name: str, lane: _Outward) -> bool:
        """Write what waits; where the kernel's buffer is full, go on when it has room."""
        try:
            lane.writer.write_to(lane.socket)
        except OSError:
            self._hang_up(name)
            return False
        full = lane.writer.waiting > 0
        if full is not lane.watched:
            lane.watched = full
            if full:
                self._poll.register(lane.socket, select.EPOLLOUT)
            else:
                self._poll.unregister(lane.socket)
        return True

    def _hang_up(self, name: str) -> None:
        self._outward.pop(name).socket.close()  # which takes it out of the poll as well


class _Inward(NamedTuple):
    """From one other actor."""

    socket: socket.socket
    frames: FrameReader


@dataclass(slots=True)
class _Outward:
    """The lane to one other actor: messages that the kernel has not taken yet stand in a queue."""

    socket: socket.socket
    life: bytes
    watched: bool = False
    writer: FrameWriter = field(default_factory=lambda: FrameWriter(QUEUE_BYTES_MAX))
