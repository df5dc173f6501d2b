"""Our selector for Thespian's transport answers as ``selectors`` does, where Thespian relies on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from entgldb.actors.host.poll import Selectors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[selectors, Selectors], ids=["the standard library's", "ours"])
def kind(request: pytest.FixtureRequest) -> type[Selectors]:
    found: type[Selectors] = request.param
    return found


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def waited(kind: type[Selectors], fd: int, events: int, timeout: float | None) -> list[tuple[int, int]]:
    one = kind.DefaultSelector()
    try:
        one.register(fd, events)
        return [(key.fd, got) for key, got in one.select(timeout)]
    finally:
        one.close()


def test_readable_once_something_came_and_at_the_end(kind: type[Selectors], pair: Pair) -> None:
    ours, theirs = pair
    assert waited(kind, ours.fileno(), selectors.EVENT_READ, 0.001) == []
    theirs.send(b"x")
    assert waited(kind, ours.fileno(), selectors.EVENT_READ, None) == [(ours.fileno(), selectors.EVENT_READ)]
    theirs.close()
    ours.recv(10)
    assert waited(kind, ours.fileno(), selectors.EVENT_READ, 0) == [(ours.fileno(), selectors.EVENT_READ)]


def test_writable_while_there_is_room(kind: type[Selectors], pair: Pair) -> None:
    ours, _ = pair
    ours.setblocking(False)
    assert waited(kind, ours.fileno(), selectors.EVENT_WRITE, 1) == [(ours.fileno(), selectors.EVENT_WRITE)]
    with contextlib.suppress(BlockingIOError):
        while ours.send(b"x" * 65536):
            pass
    assert waited(kind, ours.fileno(), selectors.EVENT_WRITE, 0) == []


def test_a_closed_descriptor_is_named_as_bad(kind: type[Selectors], pair: Pair) -> None:
    ours, _ = pair
    closed = fcntl.fcntl(ours, fcntl.F_DUPFD, 900)  # a number that an epoll descriptor does not get next
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        waited(kind, closed, selectors.EVENT_READ, 0)
    assert caught.value.errno == errno.EBADF


class Waiting:
    """An actor that has one descriptor and one timer."""

    def __init__(self, fd: int, due: float = math.inf, *, to_send: bool = False) -> None:
        self.within = False
        self.turns = 0
        self._fd, self._due, self._to_send = fd, due, to_send

    def fds(self) -> list[int]:
        return [self._fd]

    def due(self) -> float:
        return self._due

    def turn(self) -> bool:
        self.turns += 1
        self._due = math.inf
        os.read(self._fd, 1) if ready(self._fd) else None
        return self._to_send


def ready(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.fixture
def theirs() -> Iterator[Pair]:
    ours, other = socket.socketpair()
    with ours, other:
        yield ours, other


def served(monkeypatch: pytest.MonkeyPatch, waiter: Waiting, fd: int, timeout: float) -> list[int]:
    monkeypatch.setattr(Selectors, "waiter", waiter)
    return [ready for ready, _ in waited(Selectors, fd, selectors.EVENT_READ, timeout)]


def test_an_actor_is_served_while_thespian_waits(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair
) -> None:
    own, thespian = pair[0].fileno(), theirs[0].fileno()
    pair[1].send(b"xxx")
    waiter = Waiting(own)
    assert served(monkeypatch, waiter, thespian, 0.05) == []
    assert (waiter.turns, ready(own)) == (3, False)


def test_thespian_goes_on_however_busy_the_actor_is(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair
) -> None:
    pair[1].send(b"xxx")
    theirs[1].send(b"x")
    waiter = Waiting(pair[0].fileno())
    assert served(monkeypatch, waiter, theirs[0].fileno(), 60) == [theirs[0].fileno()]
    assert waiter.turns == 1


def test_thespian_goes_on_when_the_actor_has_something_for_it(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair
) -> None:
    pair[1].send(b"xxx")
    waiter = Waiting(pair[0].fileno(), to_send=True)
    assert served(monkeypatch, waiter, theirs[0].fileno(), 60) == []
    assert waiter.turns == 1


def test_a_timer_is_a_turn(monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair) -> None:
    waiter = Waiting(pair[0].fileno(), time.monotonic() + 0.02, to_send=True)
    begun = time.monotonic()
    assert served(monkeypatch, waiter, theirs[0].fileno(), 60) == []
    assert waiter.turns == 1
    assert time.monotonic() - begun >= 0.02


def test_an_actor_within_a_handler_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair
) -> None:
    pair[1].send(b"x")
    waiter = Waiting(pair[0].fileno())
    waiter.within = True
    assert served(monkeypatch, waiter, theirs[0].fileno(), 0.01) == []
    assert (waiter.turns, ready(pair[0].fileno())) == (0, True)


def test_a_descriptor_that_the_actor_closes_in_its_turn_is_waited_for_no_more(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, theirs: Pair
) -> None:
    class Closing(Waiting):
        def fds(self) -> list[int]:
            return [] if self.turns else super().fds()

        def turn(self) -> bool:
            self.turns += 1
            pair[0].close()
            return False

    pair[1].send(b"x")
    assert served(monkeypatch, Closing(pair[0].fileno()), theirs[0].fileno(), 0.01) == []


def test_a_child_does_not_serve_the_actor_of_its_parent(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(Selectors, "waiter", Waiting(pair[0].fileno()))
    pid = os.fork()
    if not pid:
        os._exit(0 if Selectors.waiter is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
