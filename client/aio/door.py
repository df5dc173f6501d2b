"""``Door``: the part of the asyncio ``Database`` that its collections need; and ``aside``, for its reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from entgldb.client.aio.feed import Following
    from entgldb.client.aio.live import Live
    from entgldb.client.aio.threads import Threads
    from entgldb.client.database import Database
    from entgldb.client.feeds.live import LiveQuery
    from entgldb.client.spread import Spread
    from entgldb.messages.model import Version
    from entgldb.messages.schema import Message

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Door(Protocol):
    """The file of a node, read in threads, and the way to its actors."""

    @property
    def blocking(self) -> Database:
        """The same database for threads of its user's own."""
        ...

    @property
    def threads(self) -> Threads:
        """The threads that read."""
        ...

    def changes(
        self,
        since: str | None = None,
        *,
        collection: str | None = None,
        filter: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Following:
        """Changes after a token, oldest first, at least once."""
        ...

    def live(self, query: LiveQuery) -> Live:
        """The results of a query, again whenever they have changed."""
        ...

    async def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        """Wait until the members that are needed have these versions. Raises SpreadError."""
        ...

    async def spread(self, version: Version) -> Spread:
        """Which other members have a version, as far as this node knows now."""
        ...

    async def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer."""
        ...


def aside(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The same method of the blocking API, called in a thread and awaited."""

    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        made: R = await self._run(functools.partial(method, self._blocking, *args, **kwargs))
        return made

    functools.update_wrapper(call, method)  # for help()
    return call


def awaited(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The same method of the blocking API, which has all that it does done by the hands of its collection."""

    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        verb: Any = method(self, *args, **kwargs)
        made: R = await verb
        return made

    functools.update_wrapper(call, method)  # for help()
    return call
