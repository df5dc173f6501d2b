"""Watches and live queries for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from entgldb.client.aio.feed import CommitFeed, Following, Run
from entgldb.client.feeds.watching import Event, Watched

if TYPE_CHECKING:
    from entgldb.client.aio.transport import Transport
    from entgldb.client.feeds.live import LiveQuery
    from entgldb.client.writes import Document


class Watch(AsyncIterator[Event]):
    """The iterator that ``watch`` returns: it waits for more for ever."""

    def __init__(
        self,
        run: Run,
        start: Callable[[], tuple[str | None, Watched]],
        follow: Callable[[str | None], Following],
    ) -> None:
        self._run, self._start, self._follow = run, start, follow
        self._feed: Following | None = None
        self._told = self._tell()

    @property
    def token(self) -> str | None:
        """Give it to ``watch`` to go on after all that was read so far, what did not matter included."""
        return None if self._feed is None else self._feed.token

    async def __anext__(self) -> Event:
        return await anext(self._told)

    async def aclose(self) -> None:
        """Wait no more."""
        await self._told.aclose()

    async def _tell(self) -> AsyncGenerator[Event, None]:
        token, watched = await self._run(self._start)
        self._feed = self._follow(token)
        try:
            async for change in self._feed:
                event = watched.event(change)
                if event is not None:
                    yield event
        finally:
            await self._feed.aclose()


class Live(AsyncIterator["list[Document]"]):
    """The iterator that ``live`` returns: the result, and each other one that comes of it, for ever."""

    def __init__(self, requests: Transport, run: Run, query: LiveQuery) -> None:
        self._told = _tell(requests, run, query)

    async def __anext__(self) -> list[Document]:
        return await anext(self._told)

    async def aclose(self) -> None:
        """Wait no more."""
        await self._told.aclose()


async def _tell(requests: Transport, run: Run, query: LiveQuery) -> AsyncGenerator[list[Document], None]:
    with CommitFeed(requests) as feed:
        while True:
            # before reading: every commit from here on is announced
            await feed.rearm()
            found = await run(query.step)
            if found is not None:
                yield found
            await feed.wait()
