"""Requests of one asyncio client: bounded in flight, sent again over a new connection when one breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from entgldb.client.access import check_access
from entgldb.client.aio.wire import AsyncWire, LostError
from entgldb.client.transport import RETRY_SECONDS, closed
from entgldb.client.wire import framed, no_answer, unless_refused
from entgldb.messages.client import Commit, Follow
from entgldb.messages.errors import BusyError, EntglError, NoAnswerError, NoNodeError
from entgldb.messages.schema import Message


class Requests:
    """Keeps a connection to the node in ``directory`` while there is something to ask."""

    def __init__(self, directory: Path, timeout: float, in_flight: int) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._directory = directory
        self._timeout = timeout
        self._slots = asyncio.Semaphore(in_flight)
        self._dialling = asyncio.Lock()
        self._wire: AsyncWire | None = None
        self._last_id = 0
        self._closed = False
        self._lost: EntglError | None = None
        """Why a connection was last lost, or not made, where the node said so."""

    async def attached(self) -> AsyncWire:
        """The connection, made anew when it is lost. Raises NoNodeError, NoAnswerError after ``close``."""
        if self._wire is None or self._wire.lost:
            async with self._dialling:
                if self._closed:
                    raise NoAnswerError("the database was closed", definite=False)
                if self._wire is None or self._wire.lost:
                    check_access(self._directory)
                    self._wire = await AsyncWire.open(self._directory, self._pushed, self._timeout)
        return self._wire

    async def request(self, message: Message) -> Message:
        """The answer to one request.

        Raises what the node refused it with; NoAnswerError (not definite) when none came in time;
        NoNodeError at once where no node was there for as long as that.
        """
        if self._closed:
            raise closed()
        self._last_id += 1
        request_id = self._last_id
        data = framed(message, request_id)
        begun, lost = time.monotonic(), self._lost
        try:
            # a caller that waits for a turn has asked nothing yet
            async with self._slots, asyncio.timeout(self._timeout):
                return unless_refused(await self._insist(request_id, data))
        except TimeoutError:
            named = message.request if isinstance(message, Commit) else None
            # only what broke meanwhile says anything about it
            why = self._lost if self._lost is not lost else None
            raise no_answer(self._directory, time.monotonic() - begun, why, named) from None

    async def follow(self) -> None:
        """Have commits pushed to the ``listeners``. Raises NoNodeError or NoAnswerError."""
        wire = await self.attached()
        if not wire.following:
            wire.following = True
            await self.request(Follow())

    def close(self) -> None:
        """Hang up for good."""
        self._closed = True
        if self._wire is not None:
            self._wire.close()

    async def _insist(self, request_id: int, data: bytes) -> Message:
        sent = False
        while True:
            try:
                wire = await self.attached()
                sent = True
                return await wire.ask(request_id, data)
            except LostError as fault:
                self._lost = fault.why
                if self._closed:
                    raise NoAnswerError("the database was closed meanwhile", definite=False) from None
            except BusyError as fault:
                self._lost = fault
            except NoNodeError:
                if not sent and not self._may_return():
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    def _may_return(self) -> bool:
        """Whether the node was here so lately that it may be in the middle of a restart."""
        return self._wire is not None and time.monotonic() - self._wire.lost_at < self._timeout

    def _pushed(self) -> None:
        for listener in self.listeners:
            listener()
