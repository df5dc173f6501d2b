"""Short reads share a thread: those that come while others are under way go together, as writes do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

UNDER_WAY_MAX: Final = 2
"""Threads that do short reads: one that meets a slow disk leaves the other."""
TOGETHER_MAX: Final = 64
"""Reads that one thread does in one go."""
R = TypeVar("R")
Work = Callable[[], Any]
Outcome = tuple[Any, BaseException | None]


class Gathering:
    """Of one database."""

    def __init__(self, run: Callable[[Callable[[], list[Outcome]]], Awaitable[list[Outcome]]]) -> None:
        """``run``: have a thread do it."""
        self._run = run
        self._under_way = 0
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._tasks = set[asyncio.Task[None]]()

    async def do(self, work: Callable[[], R]) -> R:
        """The result of ``work``, which takes no time to speak of."""
        made: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, made))
        self._begin()
        return await made

    def _begin(self) -> None:
        if self._waiting and self._under_way < UNDER_WAY_MAX:
            part, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
            self._under_way += 1
            task = asyncio.create_task(self._together(part))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _together(self, part: list[tuple[Work, asyncio.Future[Any]]]) -> None:
        try:
            outcomes = await self._run(lambda: [_outcome(work) for work, _ in part])
        except Exception as fault:  # noqa: BLE001 -- it belongs to those who wait
            outcomes = [(None, fault)] * len(part)
        finally:
            self._under_way -= 1
            self._begin()
        for (_, made), (value, failed) in zip(part, outcomes, strict=True):
            if made.done():
                continue  # who asked was cancelled
            if failed is None:
                made.set_result(value)
            else:
                made.set_exception(failed)


def _outcome(work: Work) -> Outcome:
    try:
        return work(), None
    except Exception as fault:  # noqa: BLE001 -- of one read: the others have theirs
        return None, fault
