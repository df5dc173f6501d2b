"""The threads that read the file of a node, so that a slow disk stops no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Final, TypeVar

from entgldb.client.aio.feed import PAGE
from entgldb.client.aio.gathering import Gathering
from entgldb.client.transport import closed

READERS: Final = 4
"""Threads that read; a long query holds one of them."""
R = TypeVar("R")


class Threads:
    """Of one database."""

    def __init__(self) -> None:
        self.closed = False
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="entgldb-read")
        self._gathering = Gathering(self.run)

    async def run(self, work: Callable[[], R]) -> R:
        """Have a thread do something. Raises InvalidError once the database is closed."""
        if self.closed:
            raise closed()
        # for whom it is asked, and under which name, holds in the thread, too
        run = copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, work)

    async def gathered(self, work: Callable[[], R]) -> R:
        """As ``run``, of what takes no time to speak of: several share a turn of a thread."""
        return await self._gathering.do(work)

    async def paged(self, found: Iterator[R]) -> AsyncIterator[R]:
        """The items of an iterator, a page at a time."""
        while page := await self.run(lambda: list(islice(found, PAGE))):
            for one in page:
                yield one

    async def close(self, last: Callable[[], None]) -> None:
        """Nothing more is done after ``last``."""
        self.closed = True
        work = asyncio.get_running_loop().run_in_executor(self._pool, last)
        self._pool.shutdown(wait=False)
        await work
