"""One bounded request: an answer that crosses a limit or leads elsewhere goes no further."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from entgldb.actors.oauth.http import HEAD_BYTES_MAX, Answer, AuthorityError, request
from entgldb.messages.errors import Reason
from entgldb.messages.limits import HTTP_BODY_BYTES_MAX


class Server:
    """Answers every connection with the same bytes, then closes it."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        writer.close()

    async def start(self) -> tuple[asyncio.Server, str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        return server, f"http://{host}:{port}"


def get(answer: bytes) -> Answer:
    async def run() -> Answer:
        server, url = await Server(answer).start()
        async with server:
            return await request(url)

    return asyncio.run(run())


def announced(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def unannounced(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size


def chunked(size: int) -> bytes:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


@pytest.mark.parametrize("form", [announced, unannounced, chunked])
def test_a_body_may_be_as_large_as_its_limit_and_no_larger(form: Callable[[int], bytes]) -> None:
    assert len(get(form(HTTP_BODY_BYTES_MAX)).body) == HTTP_BODY_BYTES_MAX
    with pytest.raises(AuthorityError, match=f"beyond {HTTP_BODY_BYTES_MAX} bytes") as fault:
        get(form(HTTP_BODY_BYTES_MAX + 1))
    assert fault.value.reason is Reason.AUTHORITY_ERROR


def test_headers_without_an_end_are_given_up() -> None:
    with pytest.raises(AuthorityError, match=f"headers beyond {HEAD_BYTES_MAX} bytes"):
        get(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * HEAD_BYTES_MAX)


def test_an_answer_that_trickles_is_given_up_as_a_whole() -> None:
    """Every byte comes in time, the answer does not."""
    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()

        def one_more() -> None:
            if not writer.transport.is_closing():
                writer.write(b"x")
                loop.call_later(0.01, one_more)

        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        one_more()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    async def run() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        async with server:
            try:
                await request(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", total_seconds=0.3)
            finally:
                await ended.wait()

    with pytest.raises(AuthorityError, match="in time") as fault:
        asyncio.run(run())
    assert fault.value.reason is Reason.AUTHORITY_UNREACHABLE


def test_a_redirect_is_not_followed() -> None:
    async def run() -> tuple[Answer, int]:
        elsewhere = Server(announced(2))
        trap, there = await elsewhere.start()
        answer = b"HTTP/1.1 302 Found\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n" % there.encode()
        server, here = await Server(answer).start()
        async with trap, server:
            return await request(here, body=b"client_secret=s"), elsewhere.connections

    answer, connections = asyncio.run(run())
    assert answer.status == 302
    assert connections == 0
