"""Whether this process runs, and whether its node is of use: for load balancers and container hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.messages.errors import EntglError, InvalidError
from entgldb.web.bodies import answer

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database


class Health:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]

    async def healthz(self, request: Request) -> Response:
        """This process runs."""
        return answer({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """The node answers; with ``max_lag`` (seconds): and lacks nothing of its peers for longer.

        503 with ``why`` otherwise. Lag that is not known is not counted.
        """
        limit = _seconds(request.query_params.get("max_lag"))
        try:
            status = await self._db.status("sync")
        except EntglError as fault:
            return answer({"status": "no-node", "why": fault.text}, 503)
        late = [] if limit is None else sorted(_late(status.get("peers", []), limit))
        if late:
            return answer({"status": "behind", "why": f"behind {', '.join(late)}"}, 503)
        return answer({"status": "ok"})


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise InvalidError(f"max_lag={text!r:.40} is no number of seconds")
    return value


def _late(peers: list[dict[str, Any]], limit: float) -> list[str]:
    return [str(peer.get("node_id")) for peer in peers if (peer.get("seconds_in") or 0.0) > limit]
