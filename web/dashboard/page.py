"""The page at ``/``: its shell, which needs no token, and the stream that keeps it alive.

The shell holds no data. The page brings its token, where one is needed, in the header of each request, the
stream included, which it reads by ``fetch``. There is no cookie, so no other page can act for this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from entgldb._version import VERSION
from entgldb.messages.errors import BusyError
from entgldb.web.dashboard.documents import DocumentViews
from entgldb.web.dashboard.files import file
from entgldb.web.dashboard.pulse import WATCHERS_MAX, Pulse
from entgldb.web.dashboard.rendering import HEADERS, render
from entgldb.web.dashboard.views import ClusterViews
from entgldb.web.verbs.feeds import event_stream

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database


class Dashboard:
    """The handlers, over one database."""

    def __init__(self, db: Database, invitation: Callable[[], dict[str, Any]]) -> None:
        """``invitation``: what is told of the one that stands."""
        self.pulse = Pulse(db, invitation=invitation)
        self._views = (ClusterViews(db, self.pulse, invitation), DocumentViews(db))

    def routes(self) -> list[BaseRoute]:
        """The paths that they serve."""
        return [
            Route("/", self.shell, methods=["GET"]),
            Route(f"/ui/static/{VERSION}/{{name:path}}", file, methods=["GET"]),
            Route("/ui/pulse", self.stream, methods=["GET"]),
            *(route for view in self._views for route in view.routes()),
        ]

    async def shell(self, request: Request) -> Response:
        """The page without data."""
        return render("shell")

    async def stream(self, request: Request) -> Response:
        """Events of ``Pulse``."""
        if self.pulse.watchers >= WATCHERS_MAX:
            raise BusyError(f"{WATCHERS_MAX} pages are open", hint="close one, or try again later")

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for kind, data in self.pulse.events():
                yield ServerSentEvent(data, event=kind)

        return event_stream(events(), HEADERS)
