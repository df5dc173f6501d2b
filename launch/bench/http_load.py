"""A client of many connections that does little else: it shares the processor with the server it measures."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from entgldb.messages.errors import EntglError, NoAnswerError

HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 32
PATIENCE_SECONDS: Final = 30.0
READ_BYTES: Final = 65_536
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Answers(NamedTuple):
    """How a server answered requests."""

    rate: float
    """A second."""
    ms: list[float]
    """Milliseconds of each: with a given rate from the moment at which it was due, sent by then or not."""


class _Connection:
    """One connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0
        self._data = b""

    def send(self, request: bytes, since: float) -> None:
        self.since, self._data = since, b""
        self.socket.sendall(request)

    def answered(self) -> bool:
        """Read what is there; whether that was the rest of an answer. Raises EntglError for a refusal."""
        read = self.socket.recv(READ_BYTES)
        self._data += read
        if not read:
            raise EntglError("the server hung up in the middle of the bench")
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 2"):
            raise EntglError(f"the server refused a request of the bench: {self._data[:300]!r}")
        length = _LENGTH.search(head + b"\r\n")
        return length is not None and len(body) >= int(length[1])


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """One request, as it goes over the connection."""
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{kind}\r\n".encode() + body


def drive(port: int, requests: Sequence[bytes], rate: float | None = None) -> Answers:
    """Send all by CONNECTIONS connections, each when the one before is answered, or ``rate`` a second.

    Raises EntglError for an answer that is a refusal, NoAnswerError where none comes.
    """
    taken: list[float] = []
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        idle = [_Connection(port) for _ in range(CONNECTIONS)]
        all_by_number = {one.socket.fileno(): one for one in idle}
        for number, one in all_by_number.items():
            stack.enter_context(one.socket)
            poll.register(number, select.EPOLLIN)
        begun, sent = time.perf_counter(), 0
        while len(taken) < len(requests):
            now = time.perf_counter()
            due = now
            while idle and sent < len(requests):
                due = now if rate is None else begun + sent / rate
                if due > now:
                    break
                idle.pop().send(requests[sent], due)
                sent += 1
            waits = due - now if due > now else PATIENCE_SECONDS
            ready = poll.poll(waits)
            if not ready and waits == PATIENCE_SECONDS:
                raise NoAnswerError(f"no answer from the server on port {port} in {waits:.0f} s")
            for number, _ in ready:
                if all_by_number[number].answered():
                    taken.append((time.perf_counter() - all_by_number[number].since) * 1000)
                    idle.append(all_by_number[number])
        return Answers(len(requests) / (time.perf_counter() - begun), taken)


@contextmanager
def streams(port: int, path: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, to each of which the server sends events."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection((HOST, port), PATIENCE_SECONDS))
            for _ in range(count)
        ]
        for one in made:
            one.sendall(request("GET", path))
        for one in made:
            read_until(one, b"\r\n\r\n")
        yield made


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read until ``end`` has come. Raises EntglError where the server hangs up."""
    data, deadline = b"", time.monotonic() + PATIENCE_SECONDS
    while end not in data:
        if time.monotonic() > deadline:  # comments that keep a stream open may come all the time
            raise NoAnswerError(f"not within {PATIENCE_SECONDS:.0f} s: {end!r}")
        read = connection.recv(READ_BYTES)
        if not read:
            raise EntglError(f"the server hung up: {data[:300]!r}")
        data += read
    return data
