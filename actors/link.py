"""One TLS link: bytes to frames, frames to bytes, and one LinkDown at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from entgldb.actors.tls import classify
from entgldb.messages.errors import ProtocolError, Reason
from entgldb.messages.framing import FrameReader
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX, LINK_QUEUE_BYTES_MAX
from entgldb.messages.local import LinkDown, LinkUp

if TYPE_CHECKING:
    from entgldb.actors.links import TlsLinks

WRITE_BYTES: Final = 256 * 1024
"""Frames are joined to writes of about this size."""
CLOSE_SECONDS_MAX: Final = 3.0
"""How long a closing link may take to write what is queued."""


class Link(asyncio.Protocol):
    """``queue`` belongs to the main thread; everything else runs in the loop, unless it says otherwise."""

    def __init__(self, owner: TlsLinks, number: int, address: str, *, inbound: bool, lan: bool) -> None:
        self.number = number
        self.address = address
        self.inbound = inbound
        self._owner = owner
        self._lan = lan
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._queue: deque[bytes] = deque()
        # each counter has one writer, so that their difference needs no lock
        self._queued_bytes = self._written_bytes = 0
        self._flush_due = self._full = self._finishing = self.over = False
        self._ending: tuple[Reason | str, str] | None = None

    # --- main thread --------------------------------------------------------------------------------

    def queue(self, data: bytes) -> bool:
        """Take one frame to be written; False when too many bytes wait already."""
        if self._queued_bytes - self._written_bytes + len(data) > LINK_QUEUE_BYTES_MAX:
            return False
        self._queued_bytes += len(data)
        self._queue.append(data)
        if not self._flush_due:
            self._flush_due = True
            self._owner.loop.call(self._flush)
        return True

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.over:
            self._transport.abort()
            return
        try:
            node_id = self._owner.peer_of(self._transport) if self._lan else ""
        except ProtocolError as fault:
            self.abort(Reason.TLS_REFUSED, fault.text)
            return
        self._owner.loop.post(LinkUp(self.number, self.inbound, self.address, node_id))
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.over or self._ending is not None:
            return
        self._reader.feed(data)
        try:
            for payload in self._reader:
                self._reader.bytes_max = FRAME_BYTES_MAX  # the first frame was a Hello
                self._owner.frame_in(self, payload)
        except ProtocolError as fault:
            self.finish(Reason.MALFORMED, fault.text)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flush()

    def connection_lost(self, fault: Exception | None) -> None:
        if self._ending is not None:
            self.down(*self._ending)
        elif fault is None:
            self.down(Reason.PEER_CLOSED, "the peer closed the connection")
        else:
            self.down(*classify(fault))

    # --- what the owner calls -----------------------------------------------------------------------

    def finish(self, reason: Reason | str, text: str) -> None:
        """Close after what is queued was written, or after CLOSE_SECONDS_MAX. The first reason counts."""
        if self.over or self._ending is not None:
            return
        self._ending = reason, text
        if self._transport is None:
            self.down(reason, text)
        else:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS_MAX, self.abort, reason, text)
            self._flush()

    def abort(self, reason: Reason | str, text: str) -> None:
        """Close at once."""
        self.down(*(self._ending or (reason, text)))
        if self._transport is not None:
            self._transport.abort()

    def down(self, reason: Reason | str, text: str) -> None:
        """Say LinkDown, once."""
        if not self.over:
            self.over = True
            self._queue.clear()
            self._owner.forget(self)
            self._owner.loop.post(LinkDown(self.number, str(reason), text))

    def read_on(self, on: bool) -> None:
        """Stop or go on reading from the socket."""
        transport: Any = self._transport
        if not self.over and transport is not None and transport.is_reading() is not on:
            (transport.resume_reading if on else transport.pause_reading)()

    def _flush(self) -> None:
        self._flush_due = False  # before the queue is looked at: what comes later asks for another flush
        if self.over or self._transport is None or self._finishing:
            return
        while self._queue and not self._full:
            self._transport.write(self._next_write())
        if self._ending is not None and not self._queue:
            self._finishing = True
            self._transport.close()

    def _next_write(self) -> bytes:
        frames, size = [], 0
        while self._queue and size < WRITE_BYTES:
            frames.append(self._queue.popleft())
            size += len(frames[-1])
        self._written_bytes += size
        return b"".join(frames)
