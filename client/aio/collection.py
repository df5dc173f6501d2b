"""``db["users"]`` for asyncio: the documents of one collection, read and written."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from entgldb.client import collection as client
from entgldb.client.aio.door import Door, aside, awaited
from entgldb.client.aio.live import Live, Watch
from entgldb.client.feeds.live import LiveQuery
from entgldb.client.feeds.watching import begin
from entgldb.client.forms.found import Place, Sort
from entgldb.client.spread import ACK_SECONDS, Ack, Who
from entgldb.client.verbs.writing import Writing
from entgldb.client.writes import Document

if TYPE_CHECKING:
    from entgldb.client.aio.feed import Following
    from entgldb.messages.schema import Message

R = TypeVar("R")


class Found(AsyncIterator[Document]):
    """The documents that match, to be read by ``async for``."""

    def __init__(self, found: AsyncIterator[Document], place: Place) -> None:
        self._found = found
        self._place = place
        self._last: Document | None = None

    async def __anext__(self) -> Document:
        self._last = await anext(self._found)
        return self._last

    @property
    def cursor(self) -> str | None:
        """Give it to ``find`` as ``after`` to go on behind the document that came last."""
        return self._place.cursor(self._last)


class Collection:
    """The documents of one collection."""

    def __init__(self, database: Door, name: str, ack: Ack | None = None) -> None:
        """``ack``: the members that every write waits for; None: no other node."""
        self.name: Final = name
        self._database = database
        self._hands = InTheLoop(database)
        self._writing = Writing(self._hands, name, ack)
        self._blocking = client.Collection(database.blocking, name)
        self._run = database.threads.run

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} of {self._database.blocking.directory}>"

    find_one = aside(client.Collection.find_one)
    distinct = aside(client.Collection.distinct)
    aggregate = aside(client.Collection.aggregate)
    explain = aside(client.Collection.explain)
    get_many = aside(client.Collection.get_many)
    count = aside(client.Collection.count)
    to_pandas = aside(client.Collection.to_pandas)
    to_polars = aside(client.Collection.to_polars)
    to_arrow = aside(client.Collection.to_arrow)
    history = aside(client.Collection.history)
    undelete = aside(client.Collection.undelete)
    indexes = aside(client.Collection.indexes)
    shared_values = aside(client.Collection.shared_values)

    insert = awaited(client.Collection.insert)
    insert_many = awaited(client.Collection.insert_many)
    replace = awaited(client.Collection.replace)
    put = awaited(client.Collection.put)
    put_many = awaited(client.Collection.put_many)
    delete = awaited(client.Collection.delete)
    update = awaited(client.Collection.update)
    find_and_update = awaited(client.Collection.find_and_update)
    update_many = awaited(client.Collection.update_many)
    delete_many = awaited(client.Collection.delete_many)
    create_index = awaited(client.Collection.create_index)
    drop_index = awaited(client.Collection.drop_index)
    rebuild_index = awaited(client.Collection.rebuild_index)

    async def get(self, key: str) -> Document | None:
        """One document with the version that was read, or None."""
        return await self._database.threads.gathered(functools.partial(self._blocking.get, key))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        after: str | None = None,
        collation: str | None = None,
        **options: Any,
    ) -> Found:
        """The documents that match, as in the blocking API: ``async for document in users.find(...)``."""
        options |= {"sort": sort, "after": after, "collation": collation}
        find = functools.partial(self._blocking.find, filter, **options)
        return Found(self._pages(find), Place(sort, collation, after))

    async def _pages(self, find: Callable[[], Iterator[Document]]) -> AsyncIterator[Document]:
        async for document in self._database.threads.paged(await self._run(find)):
            yield document

    def with_ack(self, ack: Who, timeout: float = ACK_SECONDS) -> Collection:
        """The same collection, whose writes wait until other members have them on their disks, too.

        As in the blocking API.
        """
        return Collection(self._database, self.name, Ack.of(ack, timeout))

    def changes(
        self, since: str | None = None, *, filter: Mapping[str, Any] | None = None, follow: bool = False
    ) -> Following:
        """Like ``Database.changes``, of this collection only."""
        return self._database.changes(since, collection=self.name, filter=filter, follow=follow)

    def watch(self, filter: Mapping[str, Any] | None = None, *, since: str | None = None) -> Watch:
        """Documents that enter a filter, change within it and leave it, as in the blocking API.

        It begins with its first step.
        """
        start = functools.partial(begin, self._blocking, self._database.blocking.token, filter, since)
        return Watch(self._run, start, lambda token: self.changes(token, follow=True))

    def live(
        self, filter: Mapping[str, Any] | None = None, *, sort: Sort = None, limit: int | None = None
    ) -> Live:
        """The result of ``find`` as a list, and again whenever that has changed, as in the blocking API."""
        blocking = self._database.blocking
        asked = self.name, self._blocking.find, filter, sort, limit
        return self._database.live(LiveQuery.of(lambda: blocking.documents, *asked))


class InTheLoop:
    """The hands of the asyncio API."""

    def __init__(self, database: Door) -> None:
        self.file: Final = database.blocking
        self.read: Final = database.threads.run
        self.await_spread: Final = database.await_spread
        self.spread: Final = database.spread
        self._request = database.request

    def do(self, verb: Coroutine[Any, Any, R]) -> Any:
        return verb

    def begin(self, message: Message) -> Callable[[], Awaitable[Message]]:
        return lambda: self._request(message)
