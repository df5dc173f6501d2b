"""An operator's questions and decisions by HTTP: why, quarantine, held, forks, verification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import version_text
from entgldb.messages.errors import InvalidError
from entgldb.web.bodies import answer, number, object_of

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

AUDIT_ROWS, AUDIT_ROWS_MAX = 100, 1000
"""Rows of the audit log in one answer, and at most."""
SEQ_MAX = 2**53
"""Above every number in a log."""


class Upkeep:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/v1/collections/{collection}/why/{key:path}", self.why, methods=["GET"]),
            Route("/v1/quarantine", self.quarantine, methods=["GET"]),
            Route("/v1/quarantine/_settle", self.settle, methods=["POST"]),
            Route("/v1/audit", self.audit, methods=["GET"]),
            Route("/v1/held", self.held, methods=["GET"]),
            Route("/v1/held/_release", self.release, methods=["POST"]),
            Route("/v1/forks", self.forks, methods=["GET"]),
            Route("/v1/forks/_heal", self.heal, methods=["POST"]),
            Route("/v1/verify", self.verified, methods=["GET"]),
            Route("/v1/verify", self.verify, methods=["POST"]),
        ]

    async def why(self, request: Request) -> Response:
        """Where a document came from, who has it, and why somebody has not."""
        return answer(await self._db.why(request.path_params["collection"], request.path_params["key"]))

    async def quarantine(self, request: Request) -> Response:
        """Entries that could not be applied on this node, each with its reason."""
        rows = [
            {**one._asdict(), "version": version_text(one.version)} for one in await self._db.quarantine()
        ]
        return answer({"quarantine": rows})

    async def settle(self, request: Request) -> Response:
        """Decide about one of them: ``{"origin", "seq", "take": "retry" | "drop"}``."""
        wanted = await object_of(request, "the decision")
        origin, seq = _text(wanted, "origin"), wanted.get("seq")
        if type(seq) is not int or not 0 <= seq < SEQ_MAX:
            raise InvalidError("seq is the entry's number")
        retry = _one_of(wanted, "take", "retry", "drop") == "retry"
        await self._db.settle_unfit(origin, seq, retry=retry)
        return Response(status_code=204)

    async def audit(self, request: Request) -> Response:
        """The newest rows of the audit log, the newest first: who did what on this node."""
        limit = number(request, "limit", AUDIT_ROWS, AUDIT_ROWS_MAX) or 0
        return answer({"rows": await self._db.audit(limit)})

    async def held(self, request: Request) -> Response:
        """Entries held back because their writer's clock runs ahead, by origin."""
        return answer({"held": [one._asdict() for one in await self._db.held()]})

    async def release(self, request: Request) -> Response:
        """Apply now what is held of an ``origin``; the clock of this node follows its writer's."""
        origin = _text(await object_of(request, "the decision"), "origin")
        return answer({"released": await self._db.release_held(origin)})

    async def forks(self, request: Request) -> Response:
        """Logs of which two branches exist, with both proofs."""
        return answer({"forks": await self._db.forks()})

    async def heal(self, request: Request) -> Response:
        """Decide which branch stays, for all nodes: ``{"origin", "keep": "ours" | "theirs"}``."""
        wanted = await object_of(request, "the decision")
        origin, keep = _text(wanted, "origin"), _one_of(wanted, "keep", "ours", "theirs")
        return answer({"changed": await self._db.heal_origin(origin, keep)})

    async def verified(self, request: Request) -> Response:
        """How the comparison with each other node went, or goes on."""
        return answer({"peers": (await self._db.status("oplog"))["verify"]["peers"]})

    async def verify(self, request: Request) -> Response:
        """Compare documents with ``peer`` (or all that are linked) and, with ``repair``, mend by rule."""
        wanted = await object_of(request, "the comparison")
        peer, repair = wanted.get("peer", ""), wanted.get("repair", False)
        if not isinstance(peer, str) or not isinstance(repair, bool):
            raise InvalidError("a comparison has peer, a text, and repair, true or false")
        return answer({"runs": await self._db.verify(peer, repair=repair)}, 202)


def _text(wanted: dict[str, Any], name: str) -> str:
    value = wanted.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidError(f"{name} is a text")
    return value


def _one_of(wanted: dict[str, Any], name: str, *words: str) -> str:
    value = wanted.get(name)
    if value not in words:
        raise InvalidError(f"{name} is {' or '.join(words)}")
    return str(value)
