"""Clients of a node that is there and has no place or no answer: their waiting, and how they repeat a
write."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import entgldb.aio
from entgldb.actors.behaviour import Asker
from entgldb.actors.store import client_connection, client_socket
from entgldb.client import database as client
from entgldb.client import writes as client_writes
from entgldb.client.database import Database
from entgldb.client.wire import SOCKET_NAME, WireClient, connected
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.client import Commit, CommitDone, Done, Ping, RequestId, Written
from entgldb.messages.errors import BusyError, InvalidError, NoAnswerError, NoNodeError, TooLargeError
from entgldb.messages.limits import GROUP_ENTRIES_MAX
from entgldb.messages.schema import Message
from tests.unit.client.answering_node import Store

Serve = Callable[[Callable[[Message, Asker], None]], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    stores: list[Store] = []

    def one(answer: Callable[[Message, Asker], None]) -> Path:
        stores.append(Store(tmp_path, answer))
        return tmp_path

    yield one
    for store in stores:
        store.stop()


class Keeper:
    """Answers commits as a store does, each request id once; not at all while ``silent``."""

    def __init__(self) -> None:
        self.silent = False
        self.asked: list[Commit] = []
        self.done: dict[tuple[bytes, int], CommitDone] = {}

    def __call__(self, message: Message, asker: Asker) -> None:
        if isinstance(message, Commit):
            self.asked.append(message)
            seq = len(self.done) + 1
            made = CommitDone(tuple(Written("lan-1/0", seq) for _ in message.writes), seq)
            place = (message.request.client, message.request.counter)
            if not self.silent:
                asker.answer(self.done.setdefault(place, made))


def full(directory: Path) -> tuple[socket.socket, list[socket.socket]]:
    """A listener that lets nobody in, and a queue before it that is full."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / SOCKET_NAME))
    listener.listen(0)
    waiting = []
    while True:
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        waiting.append(one)
        try:
            one.connect(str(directory / SOCKET_NAME))
        except BlockingIOError:
            return listener, waiting


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    listener, waiting = full(tmp_path)
    made: list[socket.socket] = []
    thread = threading.Thread(target=lambda: made.append(connected(tmp_path, 30)))
    thread.start()
    for _ in waiting:
        listener.accept()[0].close()
        if made:
            break
        thread.join(0.2)
    thread.join(30)
    assert len(made) == 1
    for one in (listener, *waiting, *made):
        one.close()


def test_a_node_that_lets_nobody_in_is_busy_and_not_absent(tmp_path: Path) -> None:
    listener, waiting = full(tmp_path)
    with pytest.raises(BusyError, match="has let nobody in for") as caught:
        connected(tmp_path, 0.05)
    assert caught.value.definite
    with Database(tmp_path, timeout=0.2) as db, pytest.raises(BusyError):
        db.request(Ping())

    async def walk() -> None:
        async with entgldb.aio.connect(tmp_path, timeout=0.2):
            raise AssertionError("nobody is let in")

    with pytest.raises(BusyError):
        asyncio.run(walk())
    for one in (listener, *waiting):
        one.close()
    with pytest.raises(NoNodeError):
        connected(tmp_path, 5)


def test_who_finds_no_place_is_told_so_and_gets_one_later(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "CLIENTS_MAX", 1)
    held: list[Asker] = []
    directory = serve(lambda message, asker: held.append(asker))
    first = WireClient(directory)
    number = first.send(Ping(), 10)
    with Database(directory, timeout=0.3) as db, pytest.raises(NoAnswerError, match="none of them is idle"):
        db.request(Ping())
    held.pop(0).answer(Done())
    assert first.answer(number, 10) == Done()
    first.close()
    with Database(directory, timeout=30) as db:
        thread = threading.Thread(target=lambda: db.request(Ping()))
        thread.start()
        deadline = time.monotonic() + 20
        while not held:
            assert time.monotonic() < deadline
            thread.join(0.02)
        held.pop(0).answer(Done())
        thread.join(20)
        assert not thread.is_alive()


def test_who_had_to_make_room_does_not_notice(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "CLIENTS_MAX", 1)
    monkeypatch.setattr(client_connection, "IDLE_SECONDS_MIN", 0.0)
    directory = serve(Keeper())
    with Database(directory) as one, Database(directory) as two:
        for database in (one, two, one, two):
            database["c"].put("k", {})

    async def walk() -> None:
        async with entgldb.aio.connect(directory) as first, entgldb.aio.connect(directory) as second:
            for database in (first, second, first, second):
                await database["c"].put("k", {})

    asyncio.run(walk())


def test_a_write_without_an_answer_says_what_is_known_and_is_repeated_as_the_same(serve: Serve) -> None:
    keeper = Keeper()
    directory = serve(keeper)
    keeper.silent = True
    with Database(directory, timeout=0.2) as db:
        with pytest.raises(NoAnswerError) as caught:
            db["c"].put("k", {"v": 1})
        fault = caught.value
        assert fault.text.count(str(directory)) == 1
        assert "within 0.1 s" not in fault.text
        assert not fault.definite
        assert f"--request {fault.request}" in fault.hint
        keeper.silent = False
        db["c"].put("other", {})
        version = db["c"].put("k", {"v": 1}, request=fault.request)
    with Database(directory) as another:
        assert another["c"].put("k", {"v": 1}, request=fault.request) == version
    places = {(one.request.client, one.request.counter) for one in keeper.asked if one.writes[0].key == "k"}
    assert len(places) == 1
    # a request without an answer is awaited, whatever is written after it
    assert next(one for one in keeper.asked if one.writes[0].key == "other").request.awaited == 1


def test_so_does_the_asyncio_api(serve: Serve) -> None:
    keeper = Keeper()
    directory = serve(keeper)

    async def walk() -> None:
        async with entgldb.aio.connect(directory, timeout=0.2) as db:
            keeper.silent = True
            with pytest.raises(NoAnswerError) as caught:
                await db["c"].put("k", {})
            assert f"--request {caught.value.request}" in caught.value.hint
            keeper.silent = False
            version = await db["c"].put("k", {}, request=caught.value.request)
            assert await db["c"].put("k", {}, request=caught.value.request) == version
            assert await db["c"].delete("k", request="gone") == await db["c"].delete("k", request="gone")
            await db["c"].put_many({"a": {}, "b": {}}, atomic=True, request="both")

    asyncio.run(walk())
    assert len({(one.request.client, one.request.counter) for one in keeper.asked}) == 3


def test_the_command_line_says_it_and_repeats_it(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper()
    directory = serve(keeper)
    keeper.silent = True
    monkeypatch.setattr(client.Database.__init__, "__kwdefaults__", {"timeout": 0.2, "transport": None})
    put = ["put", "-d", str(directory), "c", "k", "{}"]
    assert run(command, put) == 4
    told = capsys.readouterr().err
    assert "(definite: no)" in told
    request = told.partition("--request ")[2].split()[0]
    keeper.silent = False
    assert run(command, [*put, "--request", request]) == 0
    first = capsys.readouterr().out
    assert run(command, [*put, "--request", request]) == 0
    assert capsys.readouterr().out == first
    assert run(command, ["delete", "-d", str(directory), "c", "k", "--request", "order 7"]) == 0
    assert len({(one.request.client, one.request.counter) for one in keeper.asked}) == 2


def test_a_request_id_is_any_text() -> None:
    assert client_writes.request_id(None) is None
    told = client_writes.request_id("0" * 32 + ":7", 2)
    assert told == RequestId(bytes(16), 9)
    one, two = client_writes.request_id("order 7"), client_writes.request_id("order 8")
    assert one is not None
    assert two is not None
    assert (one.client != two.client, one.counter) == (True, 0)
    for bad in ("", "x" * 513):
        with pytest.raises(InvalidError):
            client_writes.request_id(bad)


def test_a_client_tells_the_lowest_request_that_it_still_waits_for(serve: Serve) -> None:
    keeper = Keeper()
    with Database(serve(keeper)) as db:
        for number in range(3):
            db["c"].put(f"k{number}", {})
        db["c"].put_many({f"p{number}": {} for number in range(1200)})
    assert [one.request.awaited for one in keeper.asked[:3]] == [1, 2, 3]
    assert all(one.request.awaited >= one.request.counter - 1 for one in keeper.asked)


def test_many_documents_are_one_transaction_when_asked_for(serve: Serve) -> None:
    keeper = Keeper()
    directory = serve(keeper)
    documents = {f"k{number}": {"text": "x" * 400_000} for number in range(10)}
    with Database(directory) as db:
        assert db["c"].put_many(documents, atomic=True) == 10
        assert [len(one.writes) for one in keeper.asked] == [10]
        with pytest.raises(TooLargeError, match="a transaction has at most"):
            db["c"].put_many({f"k{number}": {} for number in range(GROUP_ENTRIES_MAX + 1)}, atomic=True)
        with pytest.raises(TooLargeError, match="a transaction has at most"):
            db["c"].put_many({f"k{n}": {"text": "x" * 1_000_000} for n in range(17)}, atomic=True)

    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            assert await db["c"].put_many(documents, atomic=True) == 10

    asyncio.run(walk())
    assert [len(one.writes) for one in keeper.asked] == [10, 10]
