"""Changes as they come, in asyncio: read after the node's push, or at a look at the file now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from itertools import islice
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from entgldb.client.aio.transport import Transport
from entgldb.client.feed import POLL_SECONDS, REDIAL_SECONDS, SILENT_SECONDS
from entgldb.client.feeds.selecting import Selected
from entgldb.messages.errors import NoAnswerError, NoNodeError
from entgldb.storage.documents.feed import Change, Changes

PAGE: Final = 500
"""Documents or changes taken from a reading thread at a time."""
R = TypeVar("R")


class Run(Protocol):
    """Have a reading thread do something."""

    def __call__(self, work: Callable[[], R]) -> Coroutine[Any, Any, R]: ...


class CommitFeed:
    """Tells when something new may be read. It works without a node, only less promptly."""

    def __init__(self, requests: Transport) -> None:
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


class Following(AsyncIterator[Change]):
    """The iterator that ``changes`` returns: it ends when all is told, or with ``follow`` waits for more for
    ever."""

    def __init__(
        self,
        requests: Transport,
        run: Run,
        changes: Callable[[str | None], Changes | Selected],
        since: str | None,
        *,
        follow: bool,
    ) -> None:
        self._run, self._changes = run, changes
        self._since = since
        self._told = self._tell(requests, follow=follow)

    @property
    def token(self) -> str | None:
        """Give it to ``changes`` to go on after all that was read so far, what did not match included."""
        return self._since

    async def __anext__(self) -> Change:
        return await anext(self._told)

    async def aclose(self) -> None:
        """Wait no more."""
        await self._told.aclose()

    async def _tell(self, requests: Transport, *, follow: bool) -> AsyncGenerator[Change, None]:
        with CommitFeed(requests) as feed:
            while True:
                # before reading: every commit from here on is announced
                if follow:
                    await feed.rearm()
                reading = await self._run(lambda: self._changes(self._since))
                while page := await self._run(lambda: list(islice(reading, PAGE))):  # noqa: B023 -- awaited here
                    for change in page:
                        self._since = change.token
                        yield change
                self._since = reading.token
                if not follow:
                    return
                await feed.wait()
