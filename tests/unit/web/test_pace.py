"""Clients that take their time over a head, a body or an answer are dropped; and so are too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from entgldb.web.door import pace
from entgldb.web.door.pace import paced

PATIENCE = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
LARGE = 8 * 1024 * 1024


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Takes a body whole, and answers a GET with more than all buffers hold."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    body = b"x" * (LARGE if scope["method"] == "GET" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(kind: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]]:
    """A client of such a server, and the server's connections."""
    config = uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_level="critical")  # type: ignore[arg-type]  # words
    config.http_protocol_class = paced(config)
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    state = server.server_state
    listening = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = listening.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        yield reader, writer, (port, state.connections)
    finally:
        writer.transport.abort()
        listening.close()
        for task in list(state.tasks):
            task.cancel()


async def hung_up(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server hangs up."""
    said = b""
    async with asyncio.timeout(PATIENCE):
        try:
            while piece := await reader.read(65536):
                said += piece
        except ConnectionResetError:
            pass
    return said


pytestmark = pytest.mark.parametrize("kind", ["h11", "httptools"])


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2]])
def test_a_head_that_does_not_come(kind: str, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "HEAD_SECONDS", 0.2)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, _):
            writer.write(sent)
            assert await hung_up(reader) == b""

    asyncio.run(trial())


def test_the_head_of_a_second_request_that_does_not_come(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "HEAD_SECONDS", 0.5)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, _):
            writer.write(PUT + b"0123456789" + b"PUT / HT")
            assert (await hung_up(reader)).startswith(b"HTTP/1.1 200")

    asyncio.run(trial())


def test_a_head_that_does_not_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "HEAD_BYTES_MAX", 1000)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, _):
            writer.write(GET[:-2] + b"X: " + b"y" * 2000)
            assert b" 200 " not in await hung_up(reader)

    asyncio.run(trial())


def test_a_body_that_does_not_come(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "BODY_SECONDS", 0.2)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, _):
            writer.write(PUT + b"0123")
            assert await hung_up(reader) == b""

    asyncio.run(trial())


def test_an_answer_that_is_not_taken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SEND_SECONDS", 0.2)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, (_, connections)):
            writer.transport.pause_reading()
            writer.write(GET)
            async with asyncio.timeout(PATIENCE):
                while not connections:
                    await asyncio.sleep(0.0)
                while connections:
                    await asyncio.sleep(0.0)
            writer.transport.resume_reading()
            assert len(await hung_up(reader)) < LARGE

    asyncio.run(trial())


def test_a_client_in_good_time_is_served_again_and_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("HEAD_SECONDS", "BODY_SECONDS", "SEND_SECONDS"):
        monkeypatch.setattr(pace, limit, 5.0)

    async def trial() -> None:
        async with connected(kind) as (reader, writer, _):
            for _ in range(3):
                writer.write(PUT + b"01234")
                writer.write(b"56789")
                said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                assert said.startswith(b"HTTP/1.1 200")
                rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), PATIENCE)
                assert b"xx" in rest

    asyncio.run(trial())


def test_too_many_connections(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "CONNECTIONS_MAX", 0)
    monkeypatch.setattr(pace, "CONNECTIONS_SPARE", 1)

    async def trial() -> None:
        async with connected(kind) as (_, _, (port, connections)):
            async with asyncio.timeout(PATIENCE):
                while not connections:
                    await asyncio.sleep(0.0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await hung_up(reader) == b""
            writer.transport.abort()

    asyncio.run(trial())
