"""The Unix socket of a node, with real sockets: requests in, answers out, bad clients alone."""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entgldb.actors.behaviour import Asker
from entgldb.actors.store import client_socket
from entgldb.actors.store.client_socket import ClientSocket
from entgldb.messages import codec
from entgldb.messages.client import Advanced, Commit, Done, Follow, Ping, Refused, Report, RequestId, Write
from entgldb.messages.errors import ErrorCode, Reason
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import FRAME_BYTES_MAX
from entgldb.messages.local.actors import Dropped, StopNow
from entgldb.messages.schema import Channel, Message

TURNS_MAX = 100
"""Of an actor, for five thousand small requests that have arrived."""


class Served:
    """A client socket whose requests the test answers, as the store does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = ClientSocket(directory)
        self.socket.start()
        self.seen: list[tuple[Asker | None, Message]] = []

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not done():
            assert time.monotonic() < deadline, f"seen only {self.seen[-5:]}"
            self.turn()

    def turn(self) -> None:
        """Drain the socket once its descriptor is readable, as the host does."""
        select.select([self.socket.fileno()], [], [], 0.05)
        self.seen += self.socket.drain()

    def take(self, count: int = 1) -> list[tuple[Asker, Message]]:
        """The first ``count`` requests, with whom to answer."""
        self.until(lambda: len(self.requests()) >= count)
        return self.requests()

    def requests(self) -> list[tuple[Asker, Message]]:
        return [(asker, message) for asker, message in self.seen if asker is not None]

    def dropped(self) -> list[str]:
        return [message.reason for _, message in self.seen if isinstance(message, Dropped)]


class Caller:
    """A client that may misbehave; the node has its turns while it waits."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.socket = socket.socket(socket.AF_UNIX)
        folder = os.open(served.directory, os.O_RDONLY)
        self.socket.connect(f"/proc/self/fd/{folder}/entgldb.sock")
        os.close(folder)
        self.socket.setblocking(False)
        self.reader = FrameReader()

    def say(self, message: Message, request_id: int, seconds: float = 15) -> None:
        self.send(frame(codec.encode(message, request_id)), seconds)

    def send(self, data: bytes, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                self.served.turn()

    def hear(self) -> codec.Decoded:
        deadline = time.monotonic() + 15
        while True:
            for payload in self.reader:
                return codec.decode(payload, Channel.LOCAL)
            self.reader.feed(self.receive(deadline))

    def receive(self, deadline: float) -> bytes:
        while time.monotonic() < deadline:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                self.served.turn()
                continue
            if not data:
                raise EOFError
            return data
        raise TimeoutError


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.socket.stop()


@pytest.fixture
def call(served: Served) -> Iterator[Callable[[], Caller]]:
    callers: list[Caller] = []

    def new() -> Caller:
        callers.append(Caller(served))
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
        bad.send(garbage)
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
    assert served.socket.pending_bytes == 0


def test_answers_of_one_turn_are_written_together(served: Served, call: Call) -> None:
    caller = call()
    for number in range(1, 65):
        caller.say(Ping(), number)
    taken = served.take(64)
    for asker, _ in taken[:-1]:
        asker.answer(Done())
    with pytest.raises(BlockingIOError):
        caller.socket.recv(1, socket.MSG_DONTWAIT)
    taken[-1][0].answer(Done())
    assert [caller.hear().request_id for _ in range(64)] == list(range(1, 65))


def test_an_answer_does_not_wait_for_a_neighbour_that_takes_long(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Ping(), 1)
    caller.say(Ping(), 2)
    taken = served.take(2)
    taken[0][0].answer(Done())
    served.socket.drain()
    assert caller.hear().request_id == 1


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
    sent = 0

    def flood() -> None:
        nonlocal sent
        while sent < 100:
            caller.say(commit(500_000), 1, seconds=0.2)
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
    assert served.socket.pending_bytes <= 2_000_000


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    served = Served(deep)
    caller = Caller(served)
    caller.say(Ping(), 1)
    ((asker, _),) = served.take()
    asker.answer(Done())
    assert caller.hear().message == Done()
    caller.socket.close()
    served.socket.stop()


def test_a_socket_left_by_a_crash_is_replaced_and_a_stop_removes_it(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "entgldb.sock"))
    left.close()
    served = Served(tmp_path)
    caller = Caller(served)
    caller.say(Ping(), 1)
    ((asker, _),) = served.take()
    asker.answer(Done())
    served.socket.stop()
    assert caller.hear().message == Done(), "what was answered before the stop is written"
    caller.socket.close()
    assert not (tmp_path / "entgldb.sock").exists()


def test_the_successor_of_a_stopping_node_keeps_its_socket_file(tmp_path: Path) -> None:
    first, second = Served(tmp_path), Served(tmp_path)
    first.socket.stop()
    caller = Caller(second)
    caller.say(Ping(), 1)
    second.take()
    caller.socket.close()
    second.socket.stop()


def test_many_requests_at_once_take_few_turns(served: Served, call: Call) -> None:
    caller = call()
    count, answered, turns = 5_000, 0, 0
    caller.send(b"".join(frame(codec.encode(Ping(), number + 1)) for number in range(count)))
    while answered < count:
        served.until(lambda: bool(served.requests()))
        turns += 1
        for asker, _ in served.requests():
            asker.answer(Done())
            answered += 1
        served.seen.clear()
    assert [caller.hear().request_id for _ in range(count)] == list(range(1, count + 1))
    assert turns <= TURNS_MAX


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
    assert refused.code == "busy"
    with pytest.raises(EOFError):
        second.hear()
    first.say(Ping(), 2)
    served.take()
