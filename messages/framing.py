"""Bytes to frames and back, sans-I/O: a four-byte big-endian length, then the payload."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Protocol

from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import FRAME_BYTES_MAX

PREFIX_BYTES = 4
WRITE_BYTES: Final = 256 * 1024
"""Small frames are joined to writes of about this size; a large one is handed over as it is."""
WRITE_PARTS_MAX: Final = 1024
"""Handed to the kernel at a time (IOV_MAX)."""


def frame(payload: bytes) -> bytes:
    """``payload`` with its length in front. Raises ProtocolError beyond FRAME_BYTES_MAX."""
    if len(payload) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(payload)} bytes, {FRAME_BYTES_MAX} allowed")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


def payload_length(prefix: bytes | bytearray | memoryview, bytes_max: int = FRAME_BYTES_MAX) -> int:
    """The length a prefix announces. Raises ProtocolError before anyone takes memory for it."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= bytes_max:
        raise ProtocolError(f"a frame of {length} bytes announced, 1 to {bytes_max} allowed")
    return length


class FrameReader:
    """Collects received bytes and gives out whole payloads.

    >>> reader = FrameReader()
    >>> reader.feed(b"\\x00\\x00\\x00\\x02h")
    >>> list(reader)
    []
    >>> reader.feed(b"i")
    >>> list(reader)
    [b'hi']
    """

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take what a socket gave."""
        self._buffer += data

    @property
    def ready(self) -> bool:
        """Whether a whole payload, or a fault, is there to be taken."""
        if len(self._buffer) < PREFIX_BYTES:
            return False
        length = int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        return not 0 < length <= self.bytes_max or len(self._buffer) >= PREFIX_BYTES + length

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        try:
            while len(self._buffer) - start >= PREFIX_BYTES:
                body = start + PREFIX_BYTES
                end = body + payload_length(self._buffer[start:body], self.bytes_max)
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[body:end])
                start = end
                yield payload
        finally:
            del self._buffer[:start]


class Stream(Protocol):
    """The part of a socket that does not block which a writer calls."""

    def send(self, data: bytes, /) -> int: ...

    def sendmsg(self, parts: Any, /) -> int: ...


class FrameWriter:
    """Frames that wait to be written, bounded. One thread may put while another one writes.

    >>> writer = FrameWriter(bytes_max=10)
    >>> writer.put(frame(b"hi")), writer.put(frame(b"there"))
    (True, False)
    >>> parts = writer.next_parts(100)
    >>> writer.wrote(parts, 5)
    >>> writer.waiting
    1
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts: deque[bytes | memoryview] = deque()
        # each counter has one writer, so that their difference needs no lock
        self._put = self.written = 0

    @property
    def waiting(self) -> int:
        """Bytes that were put and not written."""
        return self._put - self.written

    def put(self, *parts: bytes) -> bool:
        """Queue one frame; False where too many bytes wait already."""
        size = sum(map(len, parts))
        if self.waiting + size > self._bytes_max:
            return False
        self._put += size
        self._parts.extend(parts)
        return True

    def next_parts(self, size: int) -> list[bytes | memoryview]:
        """The next parts, of about ``size`` bytes together; ``wrote`` takes what becomes of them."""
        parts: list[bytes | memoryview] = []
        while self._parts and size > 0 and len(parts) < WRITE_PARTS_MAX:
            parts.append(self._parts.popleft())
            size -= len(parts[-1])
        return parts

    def wrote(self, parts: list[bytes | memoryview], size: int) -> None:
        """Of ``parts`` the first ``size`` bytes are written; the rest stands first again."""
        self.written += size
        for index, part in enumerate(parts):
            if size < len(part):
                self._parts.extendleft(reversed(parts[index + 1 :]))
                self._parts.appendleft(memoryview(part)[size:])
                break
            size -= len(part)

    def write_to(self, stream: Stream) -> None:
        """Write what waits, as far as the stream takes it. Raises OSError."""
        while parts := self.next_parts(WRITE_BYTES):
            size = sum(map(len, parts))
            try:
                small = size <= 2 * WRITE_BYTES
                taken = stream.send(b"".join(parts)) if small else stream.sendmsg(parts)
            except BlockingIOError:
                taken = 0
            self.wrote(parts, taken)
            if taken < size:
                return

    def clear(self) -> None:
        """Nothing will be written any more."""
        self._parts.clear()
        self.written = self._put
