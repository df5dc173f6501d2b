"""Places that a server has for long work: one more is refused, and told to come again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request

from entgldb.messages.errors import BusyError
from entgldb.web.verbs import actors, feeds, streams
from entgldb.web.verbs.actors import Actors
from entgldb.web.verbs.feeds import Feeds
from entgldb.web.verbs.streams import Streams

NOBODY: Any = None
"""Refused before any database is asked."""


def request(**body: Any) -> Request:
    """One with a body of JSON."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "path_params": {"collection": "c", "actor": "sync"},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    return Request(scope, receive)


def test_clients_that_are_sent_events() -> None:
    made = Feeds(NOBODY)
    made.clients = feeds.CLIENTS_MAX
    with pytest.raises(BusyError, match="1024 clients are sent events"):
        made._stream(NOBODY)


@pytest.mark.parametrize(
    ("counter", "limit", "handler"),
    [
        ("_imports", [None] * streams.IMPORTS_MAX, "import_"),
        ("_exports", streams.EXPORTS_MAX, "export"),
        ("_downloads", streams.DOWNLOADS_MAX, "backup"),
        ("_copying", True, "backup"),
    ],
)
def test_streams(counter: str, limit: object, handler: str) -> None:
    made = Streams(NOBODY)
    setattr(made, counter, limit)
    with pytest.raises(BusyError, match="under way"):
        asyncio.run(getattr(made, handler)(request()))


def test_messages_that_were_told() -> None:
    made = Actors(NOBODY)
    made._told = {*range(actors.TELLS_MAX)}  # type: ignore[arg-type]  # their number is all that counts
    with pytest.raises(BusyError, match="64 messages are on their way"):
        asyncio.run(made.tell(request(message="SyncNow")))
