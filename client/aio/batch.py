"""``db.batch()`` for asyncio: writes to several collections as one transaction."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from entgldb.client import writes as client_writes
from entgldb.client.batch import Gathering
from entgldb.client.upkeep.tracing import commit

if TYPE_CHECKING:
    from entgldb.client.aio.door import Door
    from entgldb.client.spread import Ack


class Batch(Gathering):
    """A batch of the asyncio API."""

    def __init__(self, database: Door, request: str | None, ack: Ack | None = None) -> None:
        super().__init__(request)
        self._database = database
        self._ack = ack

    async def __aenter__(self) -> Batch:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        writes = self._end(well=kind is None)
        if writes:
            request = self._named or self._database.blocking.next_request()
            answer = await self._database.request(commit(request, writes))
            self._was_done(client_writes.versions(answer, writes), self._database.spread)
            if self._ack is not None:
                await self._database.await_spread(self._ack.need, self.made(), self._ack.seconds)
