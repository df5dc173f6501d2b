"""Many clients at one socket, and clients that take more than their part: each has a turn, and a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entgldb.actors.behaviour import Asker
from entgldb.actors.store import client_connection, client_socket
from entgldb.client.wire import framed
from entgldb.messages.client import (
    Commit,
    Done,
    Follow,
    Piece,
    Ping,
    Refused,
    Report,
    RequestId,
    Status,
    Write,
)
from entgldb.messages.limits import CLIENT_ANSWER_BYTES_MAX, CLIENT_TURN_MAX, REQUEST_BYTES_MAX
from entgldb.messages.schema import Message
from tests.unit.actors.store.test_client_socket import Caller, Served

Call = Callable[[], Caller]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.socket.stop()


@pytest.fixture
def call(served: Served) -> Iterator[Call]:
    made: list[Caller] = []

    def one() -> Caller:
        made.append(Caller(served))
        served.turn()
        return made[-1]

    yield one
    for caller in made:
        caller.socket.close()


def commit(size: int, writes: int = 1) -> Commit:
    return Commit(RequestId(b"c" * 16, 1), tuple(Write("c", f"k{n}", b"x" * size) for n in range(writes)))


def only(served: Served, kind: type[Message]) -> list[tuple[Asker, Message]]:
    return [one for one in served.requests() if isinstance(one[1], kind)]


def test_where_all_places_are_taken_the_one_that_was_idle_longest_goes(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "CLIENTS_MAX", 3)
    monkeypatch.setattr(client_connection, "IDLE_SECONDS_MIN", 0.0)
    oldest, waiting, follower = call(), call(), call()
    waiting.say(Status(), 1)
    follower.say(Follow(), 1)
    served.until(lambda: len(served.requests()) == 2)
    only(served, Follow)[0][0].answer(Done())
    fourth = call()
    told = oldest.hear()
    assert isinstance(told.message, Refused)
    assert (told.request_id, told.message.code) == (0, "busy")
    assert "idle longest" in told.message.text
    fourth.say(Ping(), 7)
    served.until(lambda: only(served, Ping))
    assert "idle" in served.dropped()
    # none of them is idle now: the next is told at once
    fifth = call()
    refused = fifth.hear().message
    assert isinstance(refused, Refused)
    assert (refused.code, "too-many-links" in served.dropped()) == ("busy", True)
    only(served, Status)[0][0].answer(Report({}))
    assert waiting.hear().message == Report({})


def test_a_flood_of_one_client_leaves_the_others_their_turn(served: Served, call: Call) -> None:
    flood, other = call(), call()
    frame_of_one = framed(Status(), 1)
    flood.socket.send(frame_of_one * 3000)
    other.socket.send(framed(Ping(), 1))
    turns = [0]

    def turn() -> bool:
        before = len(served.requests())
        served.turn()
        turns[0] += 1
        came = served.requests()[before:]
        assert len([one for one in came if isinstance(one[1], Status)]) <= CLIENT_TURN_MAX
        for asker, message in came:
            if isinstance(message, Status):
                asker.answer(Report({"n": 1}))
        return bool(only(served, Ping))

    while not turn():
        pass
    assert turns[0] <= 2
    while len(only(served, Status)) < 3000:
        turn()


def test_a_client_with_too_many_open_requests_is_not_read(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "CLIENT_REQUESTS_MAX", 10)
    caller = call()
    caller.socket.send(framed(Ping(), 1) * 25)
    served.until(lambda: len(served.requests()) >= 10)
    for _ in range(5):
        served.turn()
    assert len(served.requests()) == 10
    for asker, _ in served.requests():
        asker.answer(Done())
    served.until(lambda: len(served.requests()) == 20)
    for asker, _ in served.requests()[10:]:
        asker.answer(Done())
    served.until(lambda: len(served.requests()) == 25)


def test_all_together_have_a_bound_too(served: Served, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "CLIENT_PENDING_MAX", 4)
    one, two = call(), call()
    one.socket.send(framed(Ping(), 1) * 5)
    served.until(lambda: len(served.requests()) == 5)
    two.socket.send(framed(Status(), 1))
    for _ in range(5):
        served.turn()
    assert only(served, Status) == []
    for asker, _ in served.requests():
        asker.answer(Done())
    served.until(lambda: only(served, Status))


def test_a_client_that_does_not_read_is_not_read_and_in_the_end_dropped(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = call()
    for number in range(1, 100):
        caller.say(Status(), number)
        before = len(served.requests())
        for _ in range(3):
            served.turn()
        if len(served.requests()) == before:
            break
        served.requests()[-1][0].answer(Report({"text": "x" * 100_000}))
    assert number < 30, "it is read on and on"
    assert number * 100_000 > CLIENT_ANSWER_BYTES_MAX
    assert "slow-reader" not in served.dropped()
    monkeypatch.setattr(client_connection, "PATIENCE_SECONDS", 0.0)
    served.until(lambda: "slow-reader" in served.dropped())
    other = call()
    other.say(Ping(), 1)
    served.until(lambda: only(served, Ping))


def test_a_request_larger_than_a_frame_comes_in_pieces(served: Served, call: Call) -> None:
    one, two = call(), call()
    large = commit(400_000, 10)
    data = framed(large, 5)
    one.send(data[:1_500_000])
    two.say(Ping(), 1)
    one.send(data[1_500_000:])
    one.say(Ping(), 6)
    served.until(lambda: len(served.requests()) == 3)
    (asker, found), *_ = only(served, Commit)
    assert found == large
    asker.answer(Done())
    assert one.hear().request_id == 5
    assert served.socket.pending_bytes < 100


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(REQUEST_BYTES_MAX + 1, b"x")],
        [Piece(0, b"")],
        [Piece(4, b"")],
        [Piece(4, b"12345")],
        [Piece(4, b"12"), Piece(5, b"34")],
        [Piece(2, framed(Piece(2, b"x"), 1)[4:6])],
    ],
)
def test_pieces_that_make_no_request_end_that_client(served: Served, call: Call, pieces: list[Piece]) -> None:
    caller = call()
    for piece in pieces:
        caller.say(piece, 1)
    told = caller.hear()
    assert isinstance(told.message, Refused)
    assert (told.request_id, told.message.code) == (0, "protocol")
    assert "malformed" in served.dropped()


def test_pieces_of_two_requests_do_not_mix(served: Served, call: Call) -> None:
    caller = call()
    caller.say(Piece(4, b"12"), 1)
    caller.say(Piece(4, b"34"), 2)
    assert isinstance(caller.hear().message, Refused)


def test_large_requests_wait_for_room_and_what_is_left_half_makes_room(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "CLIENT_PENDING_BYTES_MAX", 6_000_000)
    half, next_one, last = call(), call(), call()
    data = framed(commit(400_000, 10), 1)
    half.send(data[:2_200_000])
    for _ in range(3):
        served.turn()
    for caller in (next_one, last):
        caller.socket.setblocking(False)
        caller.socket.send(data[:200_000])
    for _ in range(5):
        served.turn()
    assert served.requests() == []
    half.socket.close()
    rest = {next_one: data[200_000:], last: data[200_000:]}

    def go_on() -> bool:
        for caller in list(rest):
            try:
                rest[caller] = rest[caller][caller.socket.send(rest[caller]) :]
            except BlockingIOError:
                served.turn()
            if not rest[caller]:
                del rest[caller]
        for asker, _ in served.requests():
            asker.answer(Done())
        return len(served.requests()) == 2

    served.until(go_on)


def test_a_large_request_that_does_not_go_on_is_ended(
    served: Served, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "PATIENCE_SECONDS", 0.0)
    caller = call()
    caller.say(Piece(4, b"12"), 1)
    told = caller.hear().message
    assert isinstance(told, Refused)
    assert (told.code, "idle" in served.dropped()) == ("busy", True)


def test_who_follows_twice_is_one_follower(served: Served, call: Call) -> None:
    one, two = call(), call()
    for caller in (one, one, two):
        caller.say(Follow(), 1)
    served.until(lambda: len(served.requests()) == 3)
    assert len({asker for asker, _ in served.requests()}) == 2
