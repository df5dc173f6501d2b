"""Waiting for the next commit in asyncio: the node's push, or a look at the file now and then."""

from __future__ import annotations

import asyncio
from types import TracebackType

from entgldb.launch.aio_requests import Requests
from entgldb.launch.client_feed import POLL_SECONDS, REDIAL_SECONDS, SILENT_SECONDS
from entgldb.messages.errors import NoAnswerError, NoNodeError


class CommitFeed:
    """Tells when something new may be read. It works without a node, only less promptly."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._news = asyncio.Event()
        self._redial_at = 0.0
        self._told = False

    def __enter__(self) -> CommitFeed:
        self._requests.listeners.add(self._news.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.listeners.discard(self._news.set)

    async def rearm(self) -> None:
        """Forget the news so far: the caller reads next."""
        self._told = await self._following()
        self._news.clear()

    async def wait(self) -> None:
        """Return when something may have been committed since ``rearm``: looking in vain is harmless."""
        patience = SILENT_SECONDS if self._told else POLL_SECONDS
        try:
            async with asyncio.timeout(patience):
                await self._news.wait()
        except TimeoutError:
            return

    async def _following(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._redial_at:
            return False
        try:
            await self._requests.follow()
        except (NoNodeError, NoAnswerError):
            self._redial_at = now + REDIAL_SECONDS
            return False
        return True
