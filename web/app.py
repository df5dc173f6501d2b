"""The HTTP application of one node: its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from entgldb.messages.errors import EntglError
from entgldb.web.dashboard.page import Dashboard
from entgldb.web.door.auditing import Refusals
from entgldb.web.door.guard import Guard
from entgldb.web.door.naming import named
from entgldb.web.door.place import LOOPBACK
from entgldb.web.health import Health
from entgldb.web.metrics import Metrics
from entgldb.web.openapi import Description
from entgldb.web.problems import of_bug, of_http, of_ours
from entgldb.web.verbs.actors import Actors
from entgldb.web.verbs.administration import Administration
from entgldb.web.verbs.documents import Documents
from entgldb.web.verbs.feeds import Feeds
from entgldb.web.verbs.members import Members
from entgldb.web.verbs.streams import Streams
from entgldb.web.verbs.upkeep import Upkeep

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from entgldb.client.aio.database import Database
    from entgldb.web.door.tokens import Tokens


def application(db: Database, *, hosts: Collection[str] = LOOPBACK, tokens: Tokens | None = None) -> ASGIApp:
    """Serve a database, which is closed with the application.

    ``hosts``: names of this server, without port. ``tokens`` None: nobody needs one; bind to loopback only.
    """

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        async with dashboard.pulse.beating():
            yield
        await members.invitation.end()
        await db.close()

    feeds, members = Feeds(db), Members(db)
    dashboard = Dashboard(db, members.invitation.told)
    metrics = Metrics(db, lambda: feeds.clients)
    verbs = (Documents(db), Administration(db), members, Upkeep(db), Streams(db), Actors(db))
    parts = (*verbs, feeds, Health(db), metrics)
    routes = [route for part in parts for route in part.routes()]
    app = Starlette(
        routes=[*routes, *Description(routes).routes(), *dashboard.routes()],
        exception_handlers={EntglError: of_ours, HTTPException: of_http, Exception: of_bug},
        lifespan=closing,
    )
    return named(metrics.counting(Guard(app, hosts, tokens, Refusals(db))))
