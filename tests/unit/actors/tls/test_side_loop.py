"""The side loop: nothing lost, nothing reordered, few wake-ups, a clean end."""

from __future__ import annotations

import asyncio
import logging
import select
import threading
import time
from collections.abc import Iterator

import pytest

from entgldb.actors import side_loop
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.client import Advanced
from entgldb.messages.schema import Message


@pytest.fixture
def loop() -> Iterator[SideLoop]:
    side = SideLoop("test")
    side.start()
    yield side
    side.stop()


def take(loop: SideLoop, count: int, seconds: float = 10.0) -> list[Message]:
    """Drain as a host does, until ``count`` messages are there."""
    found: list[Message] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages"
        select.select([loop.fileno()], [], [], 0.5)
        found += [message for _, message in loop.drain()]
    return found


def test_every_message_from_many_threads_arrives_in_the_order_of_its_thread(loop: SideLoop) -> None:
    def post(first: int) -> None:
        for number in range(first, first + 2000):
            loop.post(Advanced(number))

    threads = [threading.Thread(target=post, args=(n * 2000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    numbers = [message.lsn for message in take(loop, 8000) if isinstance(message, Advanced)]
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(8000))
    for n in range(4):
        own = [number for number in numbers if number // 2000 == n]
        assert own == sorted(own)


def test_many_messages_wake_the_main_thread_once(loop: SideLoop) -> None:
    for number in range(100):
        loop.post(Advanced(number))
    assert len(loop._receiver.recv(4096)) == 1
    assert len(loop.drain()) == 100
    assert not select.select([loop.fileno()], [], [], 0)[0]


def test_the_asker_travels_with_its_message(loop: SideLoop) -> None:
    class Someone:
        def answer(self, message: Message) -> None:
            raise AssertionError(message)

    asker = Someone()
    loop.post(Advanced(1), asker)
    assert loop.drain() == [(asker, Advanced(1))]


def test_calls_run_in_order_in_the_loop_thread_and_one_failure_harms_no_other(
    loop: SideLoop, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, str]] = []

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        loop.post(Advanced(number))
        if number == 3:
            raise ValueError("three")

    for number in range(10):
        loop.call(note, number)
    take(loop, 10)
    assert seen == [(number, "side-loop-test") for number in range(10)]
    assert "three" in caplog.text


def test_what_a_task_raises_is_logged(loop: SideLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        loop.post(Advanced(1))
        raise ValueError("in a task")

    async def after() -> None:
        loop.post(Advanced(2))

    loop.spawn(fail())
    take(loop, 1)
    loop.spawn(after())
    take(loop, 1)
    assert "in a task" in caplog.text


def test_stop_cancels_what_runs_and_may_be_repeated(caplog: pytest.LogCaptureFixture) -> None:
    side = SideLoop("ending")
    side.start()
    ended: list[bool] = []

    async def wait() -> None:
        side.post(Advanced(1))
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    side.spawn(wait())
    take(side, 1)
    side.stop()
    side.stop()
    side.spawn(wait())
    side.call(ended.append, False)
    side.post(Advanced(2))
    assert ended == [True]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_loop_never_started_can_be_stopped() -> None:
    side = SideLoop("idle")
    side.spawn(asyncio.sleep(0.0))
    side.stop()
    assert "side-loop-idle" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_begins_with_the_first_work_before_or_after_the_start() -> None:
    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count("side-loop-lazy")

    side = SideLoop("lazy")
    try:
        side.start()
        side.post(Advanced(1))
        assert side.drain() == [(None, Advanced(1))]
        assert threads() == 0
        side.call(side.post, Advanced(2))
        assert take(side, 1) == [Advanced(2)]
        assert threads() == 1
    finally:
        side.stop()
    side = SideLoop("lazy")
    try:
        side.call(side.post, Advanced(3))
        assert threads() == 0
        side.start()
        assert take(side, 1) == [Advanced(3)]
    finally:
        side.stop()
    assert threads() == 0
    side.call(side.post, Advanced(4))
    assert threads() == 0


def test_what_must_end_in_good_order_is_awaited_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(side_loop, "END_SECONDS_MAX", 0.1)
    side = SideLoop("ending")
    said: list[str] = []

    async def goodbye() -> None:
        said.append("goodbye")

    async def hang() -> None:
        await asyncio.Event().wait()

    side.at_end(hang)
    side.at_end(goodbye)
    side.call(said.append, "hello")
    side.start()
    side.stop()
    assert said == ["hello", "goodbye"]
    assert "good order" in caplog.text


def test_what_waits_for_a_drain_runs_after_it(loop: SideLoop) -> None:
    loop.call(loop.when_drained, lambda: loop.post(Advanced(2)))
    loop.call(loop.post, Advanced(1))
    assert take(loop, 2) == [Advanced(1), Advanced(2)]
