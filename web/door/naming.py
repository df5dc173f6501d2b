"""The name of each request (``X-Request-ID``): in its answer, and in the lines of the node's log."""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import TYPE_CHECKING, Final

from entgldb.client.upkeep.tracing import CALL

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = b"x-request-id"
GIVEN: Final = re.compile(rb"[!-~]{1,128}")
"""A name that a client may give: it stands in logs as it is."""
MADE_BYTES: Final = 4
"""Random ones of a name that is made here, the same for each; a number follows."""


def named(app: ASGIApp) -> ASGIApp:
    """The same application, each request under the name that it brings, or under one that is made here."""

    begin, numbers = secrets.token_hex(MADE_BYTES), count(1)

    async def under_its_name(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        name = _given(scope) or f"{begin}{next(numbers):08x}"

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, name.encode())]
            await send(message)

        # each request is a task of its own, with a context of its own
        CALL.set(name)
        await app(scope, receive, answered)

    return under_its_name


def _given(scope: Scope) -> str:
    """The name that a request brings; empty where it brings none that can be taken."""
    for field, value in scope["headers"]:
        if field == HEADER:
            return value.decode() if GIVEN.fullmatch(value) else ""
    return ""
