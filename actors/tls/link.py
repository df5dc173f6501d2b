"""One TLS link: bytes to frames, frames to bytes, and one LinkDown at the end."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from entgldb.actors.line import Flow
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.tls.identity import classify
from entgldb.actors.tls.link_writer import LinkWriter
from entgldb.messages.errors import ProtocolError, Reason
from entgldb.messages.framing import FrameReader
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from entgldb.messages.local.actors import LinkDown, LinkUp

CLOSE_SECONDS_MAX: Final = 3.0
"""How long a closing link may take to write what is queued."""


class LinkOwner(Protocol):
    """The part of ``TlsLinks`` that a link calls."""

    loop: SideLoop

    def peer_of(self, transport: asyncio.BaseTransport) -> tuple[str, str, str]:
        """The node id in the certificate of the other side, its key, and the cluster's under which both are
        members. Raises ProtocolError."""

    def proved(self, link: Link, who: str) -> None:
        """The other side of ``link`` has shown who it is: a node, or a client of a cloud."""

    def frame_in(self, link: Link, payload: bytes) -> None:
        """Hand one frame to the actor."""

    def forget(self, link: Link) -> None:
        """``link`` is down."""


class Link(asyncio.BufferedProtocol):
    """From the dial or the accept to the end; in the loop, but for ``writer.queue``."""

    def __init__(self, owner: LinkOwner, number: int, address: str, *, inbound: bool, lan: bool) -> None:
        self.writer: Final = LinkWriter(owner.loop)
        self.number = number
        self.address = address
        self.inbound = inbound
        self._owner = owner
        self._lan = lan
        self._certified = lan or not inbound
        """TLS has said who the other side is; without that it brings a token, which others judge."""
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._ending: tuple[Reason | str, str] | None = None
        self._arrived = 0
        self.greeting: asyncio.Task[object] | None = None
        """The handshake of an inbound link: before it is through there is no transport to abort."""

    def flow(self) -> Flow:
        """Any thread: the bytes that have gone both ways, and those that wait to."""
        frames = self.writer.frames
        return Flow(self._arrived, frames.written, frames.waiting)

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.writer.begin(transport)
        if self.writer.over:
            transport.abort()  # type: ignore[attr-defined]  # asyncio calls this with a Transport
            return
        try:
            node_id, key, under = self._owner.peer_of(transport) if self._lan else ("", "", "")
        except ProtocolError as fault:
            self.abort(Reason.TLS_REFUSED, fault.text)
            return
        if self._lan:
            self._owner.proved(self, node_id)
        self._owner.loop.post(LinkUp(self.number, self.inbound, self.address, node_id, key, under))
        self.writer.flush()

    def pause_writing(self) -> None:
        self.writer.pause()

    def resume_writing(self) -> None:
        self.writer.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all links, where ``asyncio.Protocol`` has a new one each time."""
        return self._owner.loop.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.writer.over or self._ending is not None:
            return
        self._arrived += nbytes
        self._reader.feed(self._owner.loop.read_buffer[:nbytes])
        try:
            for payload in self._reader:
                if self._certified:
                    self._reader.bytes_max = FRAME_BYTES_MAX  # the first frame was a Hello
                self._owner.frame_in(self, payload)
        except ProtocolError as fault:
            self.finish(Reason.MALFORMED, fault.text)

    def connection_lost(self, fault: Exception | None) -> None:
        if self._ending is not None:
            self.down(*self._ending)
        elif fault is None:
            self.down(Reason.PEER_CLOSED, "the peer closed the connection")
        else:
            self.down(*classify(fault))

    # --- what the owner calls -----------------------------------------------------------------------

    def admit(self, who: str) -> None:
        """From now on frames of any allowed size: the other side has shown who it is."""
        self._owner.proved(self, who)
        self._reader.bytes_max = FRAME_BYTES_MAX

    def finish(self, reason: Reason | str, text: str) -> None:
        """Close after what is queued was written, or after CLOSE_SECONDS_MAX. The first reason counts."""
        if self.writer.over or self._ending is not None:
            return
        self._ending = reason, text
        if self.writer.transport is None:
            self.down(reason, text)
        else:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS_MAX, self.abort, reason, text)
            self.writer.close_when_written()

    def abort(self, reason: Reason | str, text: str) -> None:
        """Close at once."""
        self.down(*(self._ending or (reason, text)))
        self.writer.cut()
        if self.writer.transport is None and self.greeting is not None:
            self.greeting.cancel()

    def down(self, reason: Reason | str, text: str) -> None:
        """Say LinkDown, once."""
        if not self.writer.over:
            self.writer.drop_queue()
            self._owner.forget(self)
            self._owner.loop.post(LinkDown(self.number, str(reason), text, self.address))
