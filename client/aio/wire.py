"""The node's Unix socket from asyncio: many requests in flight on one connection."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from entgldb.client.wire import connected, unless_refused
from entgldb.messages.client import Advanced
from entgldb.messages.codec import decode
from entgldb.messages.errors import EntglError
from entgldb.messages.framing import FrameReader
from entgldb.messages.schema import Channel, Message

READ_BYTES: Final = 64 * 1024
"""One buffer for each connection; asyncio itself would take 256 KiB from the kernel for every read."""


class LostError(Exception):
    """The connection broke before the answer came: it is not known whether the request was done.

    ``why``: the node's words before it hung up.
    """

    def __init__(self, why: EntglError | None = None) -> None:
        super().__init__()
        self.why = why


class AsyncWire(asyncio.BufferedProtocol):
    """One connection. All requests sent within one turn of the loop are one write."""

    def __init__(self, pushed: Callable[[], None]) -> None:
        self.lost = self.following = False
        self.lost_at = 0.0
        self._pushed = pushed
        self._why: EntglError | None = None
        self._transport: asyncio.Transport | None = None
        self._frames = FrameReader()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._unsent: list[bytes] = []
        self._answers: dict[int, asyncio.Future[Message]] = {}

    @classmethod
    async def open(cls, directory: Path, pushed: Callable[[], None], patience: float) -> AsyncWire:
        """Connect to the node in ``directory``; ``pushed`` is called for each ``Advanced`` and at the end.

        Raises NoNodeError when nobody listens there, BusyError when nobody is let in for ``patience``
        seconds.
        """
        loop = asyncio.get_running_loop()
        dialling = loop.run_in_executor(None, connected, directory, patience)
        try:
            made = await asyncio.shield(dialling)
        except asyncio.CancelledError:
            dialling.add_done_callback(_hang_up)
            raise
        try:
            made.setblocking(False)
            _, wire = await loop.create_unix_connection(lambda: cls(pushed), sock=made)
        except BaseException:
            made.close()
            raise
        return wire

    async def ask(self, request_id: int, data: bytes) -> Message:
        """Send one frame and give the answer to its request id. Raises LostError."""
        if self.lost:
            raise LostError(self._why)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            return await answer
        finally:
            # an answer to somebody who was cancelled meets nobody
            self._answers.pop(request_id, None)

    def close(self) -> None:
        """Hang up; doing it twice is fine."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._frames.feed(self._buffer[:nbytes])
        try:
            for payload in self._frames:
                decoded = decode(payload, Channel.LOCAL)
                answer = self._answers.get(decoded.request_id)
                if answer is not None and not answer.done():
                    answer.set_result(decoded.message)
                elif isinstance(decoded.message, Advanced):
                    self._pushed()
                elif decoded.request_id == 0:
                    unless_refused(decoded.message)
        except EntglError as fault:
            self._why = fault
            self.close()  # not a node of ours, or a broken one; connection_lost tells the callers that wait

    def connection_lost(self, fault: Exception | None) -> None:
        self.lost = True
        self.lost_at = time.monotonic()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LostError(self._why))
        self._pushed()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


def _hang_up(dialled: asyncio.Future[socket.socket]) -> None:
    """Close what nobody waits for any more."""
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()
