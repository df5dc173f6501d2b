"""How long a client may take over a head, a body and its answer; and how many clients there may be.

Uvicorn has a limit of its own for connections that are idle between two requests, and for none of these.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import uvicorn

CONNECTIONS_MAX: Final = 2048
"""Connections at one time; a request by one more is answered with 503."""
CONNECTIONS_SPARE: Final = 128
"""Beyond these, too, a connection is closed without a word."""
HEAD_BYTES_MAX: Final = 64 * 1024
"""The request line and the headers."""
HEAD_SECONDS: Final = 10.0
"""From the first moment of a connection, or the first byte of a later request, to the end of its headers."""
BODY_SECONDS: Final = 30.0
"""Between two pieces of a body that the server waits for."""
SEND_SECONDS: Final = 30.0
"""A client that takes nothing of its answer for so long is dropped."""

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    Protocol = HttpToolsProtocol
else:
    Protocol = object


class Paced(Protocol):
    """To be mixed into one of uvicorn's protocols; a client that is late is hung up on."""

    _timer: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _due = 0.0
    _then = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX + CONNECTIONS_SPARE:
            transport.abort()
        else:
            self._wait(HEAD_SECONDS, "_late")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asked:
            self._head_bytes = 0
            self._wait(BODY_SECONDS, "_stalled")
            return
        if not self._head_bytes:
            self._wait(HEAD_SECONDS, "_late")
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending is not None:
            self._sending.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._timer, self._sending):
            if timer is not None:
                timer.cancel()

    @property
    def _asked(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, seconds: float, then: str) -> None:
        """Call a method in so many seconds, unless this is called again before."""
        self._due, self._then = self.loop.time() + seconds, then
        # a timer that runs is left to run, and looks at its end whether it is meant: each new one costs more
        if self._timer is None or self._timer.when() > self._due:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.loop.time() < self._due:
            self._arm()
        else:
            getattr(self, self._then)()

    def _late(self) -> None:
        """The head has not come. Between two requests uvicorn's own timer runs."""
        if not self._asked and (self._head_bytes or self.cycle is None):
            self.transport.abort()

    def _stalled(self) -> None:
        """Nothing of the body has come; unless it is we who do not read, or who have it all."""
        if self._asked and self.cycle.more_body:
            if self.flow.read_paused:
                self._wait(BODY_SECONDS, "_stalled")
            else:
                self.transport.abort()


def paced(config: uvicorn.Config) -> type[Any]:
    """The protocol that ``config`` would choose, paced."""
    config.load()
    return type("PacedProtocol", (Paced, config.http_protocol_class), {})
