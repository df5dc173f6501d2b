"""Any admin message to any actor, by HTTP: what ``entgldb ask`` and ``tell`` do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.upkeep.messages import ACTORS, admin_message
from entgldb.messages.client import Report
from entgldb.messages.errors import BusyError, EntglError, InvalidError, NoAnswerError, NotFoundError
from entgldb.messages.schema import Message, to_array
from entgldb.web.bodies import answer, object_of

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

TELLS_MAX: Final = 64
"""Messages that were told and are not taken yet."""
ASK_SECONDS_MAX: Final = 600


class Actors:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._told = set[asyncio.Task[None]]()

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/v1/actors/{actor}/_ask", self.ask, methods=["POST"]),
            Route("/v1/actors/{actor}/_tell", self.tell, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Send an actor a message, give its answer: ``{"message": "Status", "fields": {}, "timeout": 5}``."""
        actor, message, seconds = await _read(request)
        try:
            async with asyncio.timeout(seconds):
                said = await self._db.ask(actor, message)
        except TimeoutError:
            raise NoAnswerError(f"{actor} has not answered within {seconds:g} s") from None
        body = said.body if isinstance(said, Report) else {"answer": str(said), "fields": to_array(said)}
        return answer({"actor": actor, "answer": body})

    async def tell(self, request: Request) -> Response:
        """Send an actor a message, without waiting for an answer."""
        actor, message, seconds = await _read(request)
        if len(self._told) >= TELLS_MAX:
            raise BusyError(f"{TELLS_MAX} messages are on their way", hint="try again later")
        task = asyncio.create_task(self._say(actor, message, seconds))
        self._told.add(task)
        task.add_done_callback(self._told.discard)
        return answer({"actor": actor, "sent": str(message)}, 202)

    async def _say(self, actor: str, message: Message, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._db.ask(actor, message)
        except (EntglError, TimeoutError):
            return  # nobody waits for it


async def _read(request: Request) -> tuple[str, Message, float]:
    """Actor, message and patience. Raises NotFoundError, InvalidError."""
    actor = request.path_params["actor"]
    if actor not in ACTORS:
        raise NotFoundError(f"no actor {actor!r:.40}", hint=", ".join(ACTORS))
    wanted = await object_of(request, "the message")
    others = wanted.keys() - {"message", "fields", "timeout"}
    name, fields, seconds = wanted.get("message"), wanted.get("fields", {}), wanted.get("timeout", 5)
    if others or not isinstance(name, str) or not isinstance(fields, dict):
        raise InvalidError("it has message, a text, and fields, an object, and timeout")
    if type(seconds) not in (int, float) or not 0 < seconds <= ASK_SECONDS_MAX:
        raise InvalidError(f"timeout is seconds above 0, {ASK_SECONDS_MAX} at most")
    return actor, admin_message(name, fields), float(seconds)
