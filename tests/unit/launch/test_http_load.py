"""The client that measures the HTTP server: it counts whole answers, and refuses to count refusals."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from entgldb.launch.bench.http_load import HOST, drive, request
from entgldb.messages.errors import EntglError

Serve = Callable[[list[bytes]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that sends these pieces for each request, and hangs up at an empty one; its port."""
    with ExitStack() as stack:

        def start(pieces: list[bytes]) -> int:
            listener = stack.enter_context(socket.create_server((HOST, 0), backlog=64))
            threading.Thread(target=_take, args=(listener, pieces), daemon=True).start()
            return int(listener.getsockname()[1])

        yield start


def _take(listener: socket.socket, pieces: list[bytes]) -> None:
    while True:
        try:
            one = listener.accept()[0]
        except OSError:  # the test is over
            return
        threading.Thread(target=_answer, args=(one, pieces), daemon=True).start()


def _answer(one: socket.socket, pieces: list[bytes]) -> None:
    # a client that has failed hangs up
    with one, suppress(ConnectionError):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while one.recv(4096):
            for piece in pieces:
                if not piece:
                    return
                one.sendall(piece)


def test_an_answer_counts_when_all_of_it_is_there(serve: Serve) -> None:
    pieces = [b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 4\r\n\r\n", b"ab", b"cd"]
    answers = drive(serve(pieces), [request("GET", "/a")] * 200)
    assert len(answers.ms) == 200
    assert answers.rate > 0
    assert min(answers.ms) > 0


def test_requests_are_sent_no_sooner_than_they_are_due(serve: Serve) -> None:
    port = serve([b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"])
    answers = drive(port, [request("PUT", "/a", b"{}")] * 50, rate=500.0)
    assert len(answers.ms) == 50
    assert answers.rate <= 50 / (49 / 500)


def test_a_refusal_is_no_figure(serve: Serve) -> None:
    port = serve([b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"])
    with pytest.raises(EntglError, match="refused a request of the bench"):
        drive(port, [request("GET", "/a")] * 4)


def test_a_server_that_hangs_up_ends_it(serve: Serve) -> None:
    with pytest.raises(EntglError, match="hung up in the middle"):
        drive(serve([b"HTTP/1.1 200 OK\r\n", b""]), [request("GET", "/a")] * 4)
