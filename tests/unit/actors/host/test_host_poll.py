"""Our selector for Thespian's transport answers as ``selectors`` does, where Thespian relies on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import socket
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
