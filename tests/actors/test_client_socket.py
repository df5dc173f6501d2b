"""The Unix socket of a node, with real sockets: requests in, answers out, bad clients alone."""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entgldb.actors import client_socket
from entgldb.actors.behaviour import Asker
from entgldb.actors.client_socket import ClientSocket
from entgldb.actors.side_loop import SideLoop
from entgldb.messages import codec
from entgldb.messages.client import Advanced, Commit, Done, Follow, Ping, Refused, Report, RequestId, Write
from entgldb.messages.errors import ErrorCode, Reason
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import FRAME_BYTES_MAX
from entgldb.messages.local import Dropped, StopNow
from entgldb.messages.schema import Channel, Message


class Served:
    """A client socket whose requests the test answers, as the store does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = SideLoop("test")
        self.socket = ClientSocket(self.loop, directory)
        self.loop.start()
        self.seen: list[tuple[Asker | None, Message]] = []

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not done():
            assert time.monotonic() < deadline, f"seen only {self.seen[-5:]}"
            select.select([self.loop.fileno()], [], [], 0.05)
            self.seen += self.loop.drain()

    def take(self, count: int = 1) -> list[tuple[Asker, Message]]:
        """The first ``count`` requests, with whom to answer."""
        self.until(lambda: len(self.requests()) >= count)
        return self.requests()

    def requests(self) -> list[tuple[Asker, Message]]:
        return [(asker, message) for asker, message in self.seen if asker is not None]

    def dropped(self) -> list[str]:
        return [message.reason for _, message in self.seen if isinstance(message, Dropped)]


class Caller:
    """A client that may misbehave."""

    def __init__(self, directory: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        folder = os.open(directory, os.O_RDONLY)
        self.socket.connect(f"/proc/self/fd/{folder}/entgldb.sock")
        os.close(folder)
        self.reader = FrameReader()

    def say(self, message: Message, request_id: int) -> None:
        self.socket.sendall(frame(codec.encode(message, request_id)))

    def hear(self) -> codec.Decoded:
        while True:
            for payload in self.reader:
                return codec.decode(payload, Channel.LOCAL)
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.reader.feed(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.loop.stop()


@pytest.fixture
def call(served: Served) -> Iterator[Callable[[], Caller]]:
    callers: list[Caller] = []

    def new() -> Caller:
        callers.append(Caller(served.directory))
        return callers[-1]

    yield new
    for caller in callers:
        caller.socket.close()


Call = Callable[[], Caller]


def commit(size: int) -> Commit:
    return Commit(RequestId(bytes(16), 1), (Write("c", "k", b"x" * size),))


def test_each_answer_finds_its_request(served: Served, call: Call) -> None:
    one, two = call(), call()
    one.say(Ping(), 7)
    one.say(commit(10), 8)
    two.say(Ping(), 7)
    taken = served.take(3)
    for number, (asker, message) in reversed(list(enumerate(taken))):
        asker.answer(Report({"number": number, "message": str(message)}))
    answers = {
        (name, got.request_id): got.message
        for name, c in (("1", one), ("2", two))
        for got in [c.hear() for _ in range(2 if c is one else 1)]
    }
    told = {key: answer.body["message"] for key, answer in answers.items() if isinstance(answer, Report)}
    assert told == {("1", 7): "Ping", ("1", 8): "Commit", ("2", 7): "Ping"}


def test_requests_of_one_client_arrive_in_order(served: Served, call: Call) -> None:
    caller = call()
    for number in range(500):
        caller.say(empty(number), number + 1)
    taken = [message for _, message in served.take(500)]
    assert [message.request.counter for message in taken if isinstance(message, Commit)] == list(range(500))


def empty(number: int) -> Commit:
    return Commit(RequestId(bytes(16), number), ())


def test_only_the_owner_may_connect(served: Served) -> None:
    path = served.directory / "entgldb.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_message_that_is_not_for_clients_is_refused_and_the_socket_stays(
    served: Served, call: Call
) -> None:
    caller = call()
    caller.say(StopNow(), 5)
    answer = caller.hear()
    assert answer.request_id == 5
    assert isinstance(answer.message, Refused)
    assert answer.message.code == ErrorCode.UNSUPPORTED
    caller.say(Ping(), 6)
    served.take()
    assert served.dropped() == [Reason.UNKNOWN_MESSAGE]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x03abc",
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        bytes(4),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"\x93\x28\x01\xc0"),
    ],
)
def test_a_malformed_frame_closes_that_client_only(
    served: Served, call: Call, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = call(), call()
    with caplog.at_level(logging.WARNING):
        bad.socket.sendall(garbage)
        refused = bad.hear().message
        assert isinstance(refused, Refused)
        assert refused.code == ErrorCode.PROTOCOL
        with pytest.raises(EOFError):
            bad.hear()
    good.say(Ping(), 1)
    ((asker, _),) = served.take()
    asker.answer(Done())
    assert good.hear().message == Done()
    assert served.dropped() == [Reason.MALFORMED]


def test_a_client_cut_mid_frame_leaves_no_request(served: Served, call: Call) -> None:
    cut, other = call(), call()
    cut.socket.sendall(frame(codec.encode(commit(100), 1))[:50])
    cut.socket.close()
    other.say(Ping(), 1)
    assert [message for _, message in served.take()] == [Ping()]


def test_a_follower_is_pushed_to_until_it_goes(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Follow(), 9)
    ((asker, _),) = served.take()
    asker.answer(Done())
    asker.answer(Advanced(1))
    asker.answer(Advanced(2))
    assert [caller.hear() for _ in range(3)] == [
        codec.Decoded(9, message, 0) for message in (Done(), Advanced(1), Advanced(2))
    ]
    assert not getattr(asker, "closed", None)
    caller.socket.close()
    served.until(lambda: getattr(asker, "closed", None))
    asker.answer(Advanced(3))
    assert served.socket.pending_bytes() == 0


def test_the_only_answer_that_is_waited_for_does_not_wait_for_the_loop(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Ping(), 1)
    [(asker, _)] = served.take()
    free = threading.Event()
    served.loop.call(free.wait, 15)
    try:
        asker.answer(Done())
        assert caller.hear().request_id == 1
    finally:
        free.set()


def test_pushes_behind_an_answer_that_the_kernel_took_in_part_stay_in_order(
    served: Served, call: Call
) -> None:
    caller = call()
    caller.say(Ping(), 1)
    [(asker, _)] = served.take()
    asker.answer(Report({"text": "x" * 1_000_000}))
    for lsn in range(1, 50):
        asker.answer(Advanced(lsn))
    assert isinstance(caller.hear().message, Report)
    assert [caller.hear().message for _ in range(1, 50)] == [Advanced(lsn) for lsn in range(1, 50)]


def test_a_client_that_does_not_read_is_dropped(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Follow(), 9)
    ((asker, _),) = served.take()
    large = Report({"text": "x" * 1_000_000})
    served.until(lambda: asker.answer(large) or served.dropped())
    assert served.dropped()[0] == Reason.SLOW_READER
    served.until(lambda: getattr(asker, "closed", None))


def test_an_answer_too_large_for_a_frame_is_refused(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Ping(), 3)
    ((asker, _),) = served.take()
    asker.answer(Report({"text": "x" * FRAME_BYTES_MAX}))
    answer = caller.hear()
    assert (answer.request_id, type(answer.message)) == (3, Refused)


def test_sockets_are_not_read_while_too_much_is_pending(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "CLIENT_PENDING_BYTES_MAX", 1_000_000)
    caller = call()
    caller.socket.settimeout(0.2)
    sent = 0

    def flood() -> None:
        nonlocal sent
        while sent < 100:
            caller.say(commit(500_000), 1)
            sent += 1

    with pytest.raises(TimeoutError):
        flood()
    assert sent < 20
    served.take(2)
    late = call()
    late.say(Ping(), 2)
    assert Ping() not in [message for _, message in served.seen]

    def answer_all() -> bool:
        for asker, _ in served.requests():
            asker.answer(Done())
        return Ping() in [message for _, message in served.seen]

    served.until(answer_all)
    assert served.socket.pending_bytes() <= 2_000_000


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    served = Served(deep)
    caller = Caller(deep)
    caller.say(Ping(), 1)
    ((asker, _),) = served.take()
    asker.answer(Done())
    assert caller.hear().message == Done()
    caller.socket.close()
    served.loop.stop()


def test_a_socket_left_by_a_crash_is_replaced_and_a_stop_removes_it(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "entgldb.sock"))
    left.close()
    served = Served(tmp_path)
    caller = Caller(tmp_path)
    caller.say(Ping(), 1)
    ((asker, _),) = served.take()
    asker.answer(Done())
    served.loop.stop()
    assert caller.hear().message == Done(), "what was answered before the stop is written"
    caller.socket.close()
    assert not (tmp_path / "entgldb.sock").exists()


def test_the_successor_of_a_stopping_node_keeps_its_socket_file(tmp_path: Path) -> None:
    first, second = Served(tmp_path), Served(tmp_path)
    first.loop.stop()
    caller = Caller(tmp_path)
    caller.say(Ping(), 1)
    second.take()
    caller.socket.close()
    second.loop.stop()


def test_many_requests_are_answered_fast(served: Served, call: Call) -> None:
    caller = call()
    count, answered = 5_000, 0
    data = b"".join(frame(codec.encode(Ping(), number + 1)) for number in range(count))
    began = time.monotonic()
    caller.socket.sendall(data)
    deadline = began + 15
    while answered < count:
        assert time.monotonic() < deadline
        select.select([served.loop.fileno()], [], [], 0.2)
        for asker, _ in served.loop.drain():
            assert asker is not None
            asker.answer(Done())
            answered += 1
    assert [caller.hear().request_id for _ in range(count)] == list(range(1, count + 1))
    assert count / (time.monotonic() - began) > 2_000


def test_one_client_too_many_is_told_and_the_others_stay(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "CLIENTS_MAX", 1)
    first = call()
    first.say(Ping(), 1)
    served.take()
    second = call()
    refused = second.hear().message
    assert isinstance(refused, Refused)
    assert refused.code == "in-use"
    assert second.socket.recv(1) == b""
    first.say(Ping(), 2)
    served.take()
