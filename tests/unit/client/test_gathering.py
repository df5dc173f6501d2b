"""Short reads that share a thread: each has its own result or fault; a cancelled one harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from entgldb.client.aio import gathering
from entgldb.client.aio.gathering import Gathering, Outcome


class Threads:
    """What threads would do, when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[Callable[[], list[Outcome]], asyncio.Future[list[Outcome]]]] = []

    async def run(self, work: Callable[[], list[Outcome]]) -> list[Outcome]:
        made: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.begun.append((work, made))
        return await made

    def end(self, at: int, fault: Exception | None = None) -> int:
        """One is through; how many reads it did."""
        work, made = self.begun[at]
        if fault is not None:
            made.set_exception(fault)
            return 0
        done = work()
        made.set_result(done)
        return len(done)


async def turns() -> None:
    """Everything that can go on does."""
    for _ in range(10):
        await asyncio.sleep(0.0)


def test_reads_that_come_meanwhile_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "TOGETHER_MAX", 3)

    async def trial() -> None:
        threads = Threads()
        gathered = Gathering(threads.run)
        asked = [asyncio.create_task(gathered.do(lambda n=n: 10 // n)) for n in (1, 2, 0, 5, 10, 3)]
        await turns()
        assert len(threads.begun) == gathering.UNDER_WAY_MAX
        assert threads.end(0) == 1
        await turns()
        assert len(threads.begun) == 3
        asked[3].cancel()
        assert threads.end(2) == 3
        assert threads.end(1) == 1
        await turns()
        assert threads.end(3) == 1
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert (results[0], results[1], results[4], results[5]) == (10, 5, 1, 3)
        assert isinstance(results[2], ZeroDivisionError)
        assert isinstance(results[3], asyncio.CancelledError)
        assert not gathered._tasks

    asyncio.run(trial())


def test_a_thread_that_cannot_be_had_fails_those_who_wait_and_nobody_else() -> None:
    async def trial() -> None:
        threads = Threads()
        gathered = Gathering(threads.run)
        first = asyncio.create_task(gathered.do(lambda: 1))
        await turns()
        threads.end(0, RuntimeError("closed"))
        with pytest.raises(RuntimeError, match="closed"):
            await first
        second = asyncio.create_task(gathered.do(lambda: 2))
        await turns()
        threads.end(1)
        assert await second == 2

    asyncio.run(trial())
