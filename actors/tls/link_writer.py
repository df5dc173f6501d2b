"""The sending half of a link: frames queued by the main thread, written by the loop, bounded."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final, cast

from entgldb.actors.side_loop import SideLoop
from entgldb.messages.framing import FrameWriter
from entgldb.messages.limits import LINK_QUEUE_BYTES_MAX

WRITE_BYTES: Final = 16 * 1024
"""Small frames are joined to writes of about this size: the content of a TLS record (RFC 8446, 5.1)."""
SLICE_BYTES_MIN: Final = 4 * 1024
SLICE_BYTES_MAX: Final = 256 * 1024
"""Handed to asyncio at a time, which keeps what the kernel does not take, and lets nothing overtake it."""
SLICE_SECONDS: Final = 0.1
"""Seconds for which a slice may take the line, about."""
SLICE_GROWTH: Final = 1.25
"""A slice that took hardly any time makes the next one larger by this factor."""
UNSENT_BYTES: Final = 4 * 1024
"""Kept by the kernel beyond what is on its way (TCP_NOTSENT_LOWAT): half a megabyte and more by itself."""
TCP_NOTSENT_LOWAT: Final = 25
"""<linux/tcp.h>; Python does not name it."""


class LinkWriter:
    """``queue`` belongs to the main thread, everything else to the loop."""

    def __init__(self, loop: SideLoop) -> None:
        self.over = False
        self.transport: asyncio.Transport | None = None
        self._side_loop = loop
        self.frames: Final = FrameWriter(LINK_QUEUE_BYTES_MAX)
        self._slice = SLICE_BYTES_MIN
        self._full_at = 0.0
        self._flush_due = self._full = self._closing = False

    def queue(self, data: bytes) -> bool:
        """Main thread: take one frame to be written; False when too many bytes wait already."""
        if self.over or not self.frames.put(data):
            return False
        if not self._flush_due:
            self._flush_due = True
            self._side_loop.call(self.flush)
        return True

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """The link is open."""
        self.transport = cast(asyncio.Transport, transport)
        tcp = transport.get_extra_info("socket")
        if tcp is not None:
            tcp.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        # both halves of asyncio's TLS transport have a buffer, and 64 KiB in the lower one are 4 s of 15 kB/s
        for each in (transport, below_tls(transport)):
            cast(asyncio.Transport, each).set_write_buffer_limits(high=1, low=0)

    def pause(self) -> None:
        """The socket takes no more now."""
        self._full, self._full_at = True, time.monotonic()

    def resume(self) -> None:
        """The socket has taken everything."""
        self._full = False
        took = time.monotonic() - self._full_at
        self._resize(SLICE_GROWTH if took < SLICE_SECONDS / 20 else max(0.5, min(1.0, SLICE_SECONDS / took)))
        self.flush()

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        self._flush_due = False  # before the queue is looked at: a later frame asks for another flush
        if self.over or self.transport is None or self.transport.is_closing():
            return
        while not self._full and (parts := self.frames.next_parts(WRITE_BYTES)):
            data = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))[: self._slice]
            self.transport.write(data)
            if not self._full:
                self._resize(SLICE_GROWTH)
            self.frames.wrote(parts, len(data))  # after the write: nothing waits when all is with asyncio
        if self._closing and not self.frames.waiting:
            self.transport.close()

    def close_when_written(self) -> None:
        """Close as soon as nothing is queued any more."""
        self._closing = True
        self.flush()

    def cut(self) -> None:
        """Close at once."""
        self.drop_queue()
        if self.transport is not None:
            self.transport.abort()

    def drop_queue(self) -> None:
        """Nothing will be written any more."""
        self.over = True
        self.frames.clear()

    def read_on(self, on: bool) -> None:
        """Stop or go on reading from the socket."""
        if self.over or self.transport is None or self.transport.is_closing():
            return
        if self.transport.is_reading() is not on:
            (self.transport.resume_reading if on else self.transport.pause_reading)()

    def _resize(self, factor: float) -> None:
        self._slice = int(max(SLICE_BYTES_MIN, min(SLICE_BYTES_MAX, self._slice * factor)))


def below_tls(transport: asyncio.BaseTransport) -> asyncio.BaseTransport:
    """The transport of the socket under asyncio's TLS; ``transport`` itself where there is none."""
    protocol = getattr(transport, "_ssl_protocol", None)
    return getattr(protocol, "_transport", transport)
