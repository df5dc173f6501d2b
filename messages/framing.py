"""Bytes to frames and back, sans-I/O: a four-byte big-endian length, then the payload."""

from __future__ import annotations

from collections.abc import Iterator

from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import FRAME_BYTES_MAX

PREFIX_BYTES = 4


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
