"""Many requests on one connection, against the node's half of the socket, both real."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entgldb.actors.behaviour import Asker, refused
from entgldb.client.aio.requests import Requests
from entgldb.messages.client import Advanced, Commit, Done, Follow, Ping, Report, RequestId
from entgldb.messages.errors import NoAnswerError, NoNodeError, NotAllowedError
from entgldb.messages.schema import Message
from tests.unit.client.answering_node import Answer, Store


@contextlib.asynccontextmanager
async def talking(
    directory: Path, answer: Answer, *, timeout: float = 10.0, in_flight: int = 64
) -> AsyncIterator[Requests]:
    store = Store(directory, answer)
    requests = Requests(directory, timeout, in_flight)
    try:
        yield requests
    finally:
        requests.close()
        await asyncio.to_thread(store.stop)


def commit(counter: int) -> Commit:
    return Commit(RequestId(b"c" * 16, counter), ())


def counter_of(message: Message) -> int:
    assert isinstance(message, Commit)
    return message.request.counter


def test_each_request_gets_its_own_answer_in_whatever_order_they_come(tmp_path: Path) -> None:
    waiting: list[tuple[Message, Asker]] = []

    def answer(message: Message, asker: Asker) -> None:
        waiting.append((message, asker))
        if len(waiting) == 50:
            for asked, by in reversed(waiting):
                by.answer(Report({"counter": counter_of(asked)}))

    async def ask() -> list[Message]:
        async with talking(tmp_path, answer) as requests:
            return await asyncio.gather(*(requests.request(commit(n)) for n in range(50)))

    assert asyncio.run(ask()) == [Report({"counter": n}) for n in range(50)]
    assert [counter_of(message) for message, _ in waiting] == list(range(50)), "sent as begun"


def test_no_more_are_in_flight_than_allowed(tmp_path: Path) -> None:
    waiting: list[Asker] = []
    most = 0

    def answer(message: Message, asker: Asker) -> None:
        nonlocal most
        waiting.append(asker)
        most = max(most, len(waiting))
        if len(waiting) == 8:
            while waiting:
                waiting.pop().answer(Done())

    async def ask() -> list[Message]:
        async with talking(tmp_path, answer, in_flight=8) as requests:
            return await asyncio.gather(*(requests.request(commit(n)) for n in range(80)))

    assert asyncio.run(ask()) == [Done()] * 80
    assert most == 8


def test_a_refusal_is_raised_to_the_one_it_is_for(tmp_path: Path) -> None:
    def answer(message: Message, asker: Asker) -> None:
        odd = counter_of(message) % 2
        asker.answer(refused(NotAllowedError("odd")) if odd else Done())

    async def ask() -> list[Message | BaseException]:
        async with talking(tmp_path, answer) as requests:
            asked = (requests.request(commit(n)) for n in range(4))
            return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(one) for one in asyncio.run(ask())] == [Done, NotAllowedError, Done, NotAllowedError]


def test_who_is_cancelled_leaves_the_others_their_answers(tmp_path: Path) -> None:
    waiting: dict[int, Asker] = {}
    two = threading.Event()

    def answer(message: Message, asker: Asker) -> None:
        waiting[counter_of(message)] = asker
        if len(waiting) == 2:
            two.set()
        if len(waiting) == 3:
            for counter, one in waiting.items():
                one.answer(Report({"counter": counter}))

    async def ask() -> list[Message]:
        async with talking(tmp_path, answer) as requests:
            first = asyncio.create_task(requests.request(commit(1)))
            second = asyncio.create_task(requests.request(commit(2)))
            await asyncio.to_thread(two.wait, 10)
            first.cancel()
            third = await requests.request(commit(3))
            assert first.cancelled()
            return [await second, third]

    assert asyncio.run(ask()) == [Report({"counter": 2}), Report({"counter": 3})]


def test_no_answer_in_time_leaves_it_open_whether_it_happened(tmp_path: Path) -> None:
    async def ask() -> None:
        async with talking(tmp_path, lambda message, asker: None, timeout=0.05) as requests:
            await requests.request(Ping())

    with pytest.raises(NoAnswerError, match="no answer from the node in") as caught:
        asyncio.run(ask())
    assert not caught.value.definite


def test_closing_tells_those_who_wait(tmp_path: Path) -> None:
    async def ask() -> None:
        async with talking(tmp_path, lambda message, asker: None) as requests:
            waits = asyncio.create_task(requests.request(Ping()))
            await requests.attached()
            requests.close()
            await waits

    with pytest.raises(NoAnswerError, match="closed"):
        asyncio.run(ask())


def test_what_had_no_answer_is_asked_again_of_the_next_life(tmp_path: Path) -> None:
    assert asyncio.run(surviving(tmp_path)) == [Report({"counter": n, "life": 2}) for n in range(3)]


async def surviving(directory: Path) -> list[Message]:
    taken = threading.Semaphore(0)
    first = Store(directory, lambda message, asker: taken.release())
    requests = Requests(directory, 10.0, 64)
    begun = asyncio.gather(*(requests.request(commit(n)) for n in range(3)))
    for _ in range(3):
        assert await asyncio.to_thread(taken.acquire, timeout=10)
    await asyncio.to_thread(first.stop)
    second = Store(
        directory, lambda message, asker: asker.answer(Report({"counter": counter_of(message), "life": 2}))
    )
    try:
        return await begun
    finally:
        requests.close()
        await asyncio.to_thread(second.stop)


def test_pushes_reach_every_listener(tmp_path: Path) -> None:
    followers: list[Asker] = []

    def answer(message: Message, asker: Asker) -> None:
        asker.answer(Done())
        if isinstance(message, Follow):
            followers.append(asker)
        for follower in followers:
            follower.answer(Advanced(5))

    async def listen() -> None:
        async with talking(tmp_path, answer) as requests:
            heard = [asyncio.Event(), asyncio.Event()]
            requests.listeners.update(event.set for event in heard)
            await requests.follow()
            await requests.follow()
            await requests.request(Ping())
            async with asyncio.timeout(10):
                await asyncio.gather(*(event.wait() for event in heard))

    asyncio.run(listen())
    assert len(followers) == 1, "one connection follows once"


def test_nobody_runs_there(tmp_path: Path) -> None:
    async def ask() -> None:
        requests = Requests(tmp_path, 10.0, 64)
        await requests.request(Ping())

    with pytest.raises(NoNodeError, match="no node is running in"):
        asyncio.run(ask())
