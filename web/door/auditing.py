"""The server's part of the node's audit log: for whom it asks, and whom it has not let in."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from entgldb.messages.administration import Audited, Event
from entgldb.messages.errors import EntglError
from entgldb.storage.audit.sparing import Sparing

if TYPE_CHECKING:
    from starlette.types import Scope

    from entgldb.client.aio.database import Database


class Refusals:
    """Requests whose token was refused: few have a row each, of the rest there is a count."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._sparing = Sparing()
        self._telling: set[asyncio.Task[None]] = set()

    def note(self, scope: Scope, fault: EntglError) -> None:
        """A request was not let in; nobody waits for the row of it."""
        left = self._sparing.take(Event.TOKEN, time.monotonic())
        if left is not None:
            said = Audited(Event.TOKEN.value, f"http {address(scope)}", fault.code.value, left_out=left)
            task = asyncio.get_running_loop().create_task(self._tell(said))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, said: Audited) -> None:
        # a node that is not there has nothing to write it into
        with suppress(EntglError):
            await self._db.request(said)


def address(scope: Scope) -> str:
    """Where a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
