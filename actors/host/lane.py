"""Lanes: Unix sockets in the node's own directory that carry the messages between its actors.

Thespian creates, supervises and addresses; but a message by its transport costs the sender 0.3 ms and
arrives 0.8 to 1.2 ms later, and an answer to it the same again. A lane takes a tenth of that: one stream from
each actor to each other, watched by one epoll descriptor, which the host waits for. An answer comes back on
the stream of its question, and so never to another life of the actor that asked. The directory belongs to
the owner alone (0700), and the kernel names the user at the other end, so a lane needs no key. If no lane
leads to an actor, Thespian carries.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from entgldb.messages.errors import ProtocolError
from entgldb.messages.framing import PREFIX_BYTES, FrameReader, FrameWriter

LANE_FOLDER: Final = "lane"
READ_BYTES: Final = 64 * 1024
"""At most: below what the C library takes from the kernel, and gives back, for every single read."""
READS_PER_TURN_MAX: Final = 32
"""Reads of one lane, and connections taken, before the actor looks at its other messages; the rest waits in
the kernel."""
BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the kernel for each lane; it may give less."""
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Told to one actor and not yet taken by the kernel; beyond it messages are dropped and counted."""
ROOT: Final = 0
"""The user id that may read the directory anyhow."""
_CREDENTIALS: Final = struct.Struct("3i")
Back = Callable[[bytes], object]
"""Takes the answer to one message to its sender, or drops it where that life has ended."""


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
        self._streams: dict[int, _Stream] = {}
        self._outward: dict[str, _Stream] = {}

    def fileno(self) -> int:
        """Readable while ``turn`` has something to do."""
        return self._poll.fileno()

    def meet(self, actors: Mapping[str, bytes]) -> None:
        """Have a lane to each of ``actors`` (name -> what differs in its next life), where it listens."""
        for name, stream in list(self._outward.items()):
            if actors.get(name) != stream.life:
                self._end(stream)
        for name, life in actors.items():
            if name not in self._outward:
                self._connect(name, life)

    def send(self, name: str, payload: bytes) -> bool:
        """Hand one message over; False where no lane leads to ``name``."""
        stream = self._outward.get(name)
        return stream is not None and self._put(stream, payload)

    def turn(self) -> list[tuple[bytes, Back | None]]:
        """All that has arrived, in each sender's order; and what waited goes out as far as it can.

        Each message has its way back; an answer to one of ours has None.
        """
        arrived: list[tuple[bytes, Back | None]] = []
        for fd, events in self._poll.poll(0):
            stream = self._streams.get(fd)
            if stream is None:
                arrived += self._accept()
            elif not events & select.EPOLLOUT or self._push(stream):
                arrived += self._read(stream)
        return arrived

    def close(self) -> None:
        """End every lane. Harmless when repeated."""
        if self._poll.closed:
            return
        for stream in list(self._streams.values()):
            self._end(stream)
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
        except OSError:  # it has no lane yet, or any more
            made.close()
            return
        self._outward[name] = self._watch(made, name, life)

    def _accept(self) -> list[tuple[bytes, Back | None]]:
        """Take whoever has connected, with what it has said already: it may have ended since."""
        arrived: list[tuple[bytes, Back | None]] = []
        for _ in range(READS_PER_TURN_MAX):
            try:
                made, _ = self._listener.accept()
            except OSError:  # nobody more, or gone before it was taken
                break
            facts = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(facts)[1] in (os.getuid(), ROOT):
                made.setblocking(False)
                arrived += self._read(self._watch(made))
            else:
                made.close()
        return arrived

    def _watch(self, made: socket.socket, name: str = "", life: bytes = b"") -> _Stream:
        stream = _Stream(made, FrameReader(self._frame_bytes_max), name, life)
        self._streams[made.fileno()] = stream
        self._poll.register(made, select.EPOLLIN)
        return stream

    def _read(self, stream: _Stream) -> list[tuple[bytes, Back | None]]:
        back = None if stream.name else partial(self._put, stream)
        arrived: list[tuple[bytes, Back | None]] = []
        try:
            for _ in range(READS_PER_TURN_MAX):
                data = stream.socket.recv(READ_BYTES)
                stream.frames.feed(data)
                arrived += ((payload, back) for payload in stream.frames)
                if len(data) < READ_BYTES:
                    break
        except BlockingIOError:
            return arrived
        except (OSError, ProtocolError):
            data = b""
        if not data:
            self._end(stream)
        return arrived

    def _put(self, stream: _Stream, payload: bytes) -> bool:
        """Queue one message, and write it where nothing waits before it; False where the stream has ended."""
        idle = not stream.writer.waiting
        if not stream.writer.put(len(payload).to_bytes(PREFIX_BYTES, "big"), payload):
            self._dropped()
            return True
        return self._push(stream) if idle else True

    def _push(self, stream: _Stream) -> bool:
        """Write what waits; where the kernel's buffer is full, go on when it has room."""
        try:
            stream.writer.write_to(stream.socket)
        except OSError:
            self._end(stream)
            return False
        full = stream.writer.waiting > 0
        if full is not stream.full:
            stream.full = full
            self._poll.modify(stream.socket, select.EPOLLIN | (select.EPOLLOUT if full else 0))
        return True

    def _end(self, stream: _Stream) -> None:
        """Harmless when repeated."""
        self._streams.pop(stream.socket.fileno(), None)
        if self._outward.get(stream.name) is stream:
            del self._outward[stream.name]
        stream.socket.close()  # which takes it out of the poll as well


@dataclass(slots=True, eq=False)
class _Stream:
    """A connection with another actor: messages that the kernel has not taken yet stand in a queue."""

    socket: socket.socket
    frames: FrameReader
    name: str
    """The actor that this one has connected to; empty where the other has connected."""
    life: bytes
    full: bool = False
    """Whether the kernel takes nothing more for now."""
    writer: FrameWriter = field(default_factory=lambda: FrameWriter(QUEUE_BYTES_MAX))
