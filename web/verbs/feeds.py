"""Change feed, watches and live queries as server-sent events (HTML standard, section 9.2).

The id of an event is its change token: a browser that reconnects sends it as ``Last-Event-ID``, and misses
nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import version_text
from entgldb.client.feeds.selecting import NOW
from entgldb.messages.errors import BusyError, EntglError, InvalidError
from entgldb.web.bodies import number, object_in_query
from entgldb.web.door.pace import SEND_SECONDS

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

CLIENTS_MAX: Final = 1024
"""Clients that are sent events at one time."""
PING_SECONDS: Final = 15
"""Between two comments that keep a quiet stream open."""
LIVE_LIMIT: Final = 100


def event_stream(
    events: AsyncIterator[ServerSentEvent], headers: Mapping[str, str] | None = None
) -> EventSourceResponse:
    """The answer that sends events as they come; a client that takes none of them is dropped."""
    return EventSourceResponse(events, headers=headers, ping=PING_SECONDS, send_timeout=SEND_SECONDS)


class Feeds:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.clients = 0
        """Clients that are sent events now."""

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/v1/changes", self.changes, methods=["GET"]),
            Route("/v1/collections/{collection}/_watch", self.watch, methods=["GET"]),
            Route("/v1/collections/{collection}/_live", self.live, methods=["GET"]),
        ]

    async def changes(self, request: Request) -> Response:
        """Changes of ``collections`` (names with commas between; all) that match ``filter``, and deletes."""
        names = request.query_params.get("collections")
        feed = self._db.changes(
            await self._since(request),
            collections=names.split(",") if names else None,
            filter=object_in_query(request, "filter"),
            follow=True,
        )

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for change in feed:
                body = {
                    "collection": change.collection,
                    "key": change.key,
                    "document": change.document,
                    "version": version_text(change.version),
                    "at_ms": change.at_ms,
                }
                yield _event("change", body, change.token)

        return self._stream(events())

    async def watch(self, request: Request) -> Response:
        """Documents that enter ``filter``, change within it and leave it."""
        watch = self._db[request.path_params["collection"]].watch(
            object_in_query(request, "filter"), since=await self._since(request)
        )

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for event in watch:
                body = {"key": event.key, "document": event.document, "version": version_text(event.version)}
                yield _event(event.kind, body, event.token)

        return self._stream(events())

    async def live(self, request: Request) -> Response:
        """The documents that match ``filter``, by ``sort``, and again whenever that has changed."""
        sort = request.query_params.get("sort")
        live = self._db[request.path_params["collection"]].live(
            object_in_query(request, "filter"),
            sort=sort.split(",") if sort else None,
            limit=number(request, "limit", LIVE_LIMIT, 1000),
        )

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for found in live:
                yield _event("result", [{"key": one.key, "document": one} for one in found])

        return self._stream(events())

    async def _since(self, request: Request) -> str | None:
        """The change token to begin behind. ``now`` is the moment before the answer begins.

        A client that writes once it has seen the head of the answer is told of that write. Raises
        InvalidError and TokenExpired for a token that is none, or of another file.
        """
        since = request.headers.get("last-event-id") or request.query_params.get("since")
        if since is not None and len(since) > 200:
            raise InvalidError("since is no token")
        if since == NOW:
            return await self._db.token()
        if since is not None:
            # a browser asks again for ever when a stream ends, and never after another status
            await self._db.threads.run(lambda: self._db.blocking.documents.changes(since))
        return since

    def _stream(self, events: AsyncIterator[ServerSentEvent]) -> Response:
        """Raises BusyError where there is no place for one more."""
        if self.clients >= CLIENTS_MAX:
            raise BusyError(f"{CLIENTS_MAX} clients are sent events", hint="try again later")
        return event_stream(self._counted(events))

    async def _counted(self, events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
        self.clients += 1
        try:
            async for event in events:
                yield event
        except EntglError as fault:
            # the answer has begun: the error is its last event
            yield _event("error", {"code": fault.code.value, "detail": fault.text, "hint": fault.hint})
        finally:
            self.clients -= 1


def _event(kind: str, body: Any, token: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body, ensure_ascii=False), event=kind, id=token)
