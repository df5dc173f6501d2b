"""``db["users"]`` for asyncio: the documents of one collection, read and written."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Names
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import collection as client
from entgldb.client import writes as client_writes
from entgldb.client.aio.door import Door, aside
from entgldb.client.aio.live import Live, Watch
from entgldb.client.feeds.live import LIVE_DOCUMENTS_MAX
from entgldb.client.feeds.watching import begin
from entgldb.client.forms.found import Place, Sort
from entgldb.client.indexing import indexes as indexing
from entgldb.client.spread import ACK_SECONDS, Ack
from entgldb.client.writes import Document
from entgldb.messages.client import DropIndex, RebuildIndex, Write
from entgldb.messages.errors import EntglError, NoAnswerError
from entgldb.messages.model import Version
from entgldb.storage.rules.filtering.parser import parse_filter

if TYPE_CHECKING:
    from entgldb.client.aio.feed import Following


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
        self._ack = ack
        self._blocking = client.Collection(database._blocking, name)
        self._run = database._run

    get = aside(client.Collection.get)
    get_many = aside(client.Collection.get_many)
    count = aside(client.Collection.count)
    to_pandas = aside(client.Collection.to_pandas)
    to_polars = aside(client.Collection.to_polars)
    to_arrow = aside(client.Collection.to_arrow)
    history = aside(client.Collection.history)
    undelete = aside(client.Collection.undelete)
    indexes = aside(client.Collection.indexes)
    shared_values = aside(client.Collection.shared_values)

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
        async for document in self._database._paged(await self._run(find)):
            yield document

    def with_ack(self, ack: str | int | Names[str], timeout: float = ACK_SECONDS) -> Collection:
        """The same collection, whose writes wait until other members have them on their disks, too.

        As in the blocking API.
        """
        return Collection(self._database, self.name, Ack.of(ack, timeout))

    find_one = aside(client.Collection.find_one)
    distinct = aside(client.Collection.distinct)
    aggregate = aside(client.Collection.aggregate)
    explain = aside(client.Collection.explain)

    async def insert(
        self,
        document: Mapping[str, Any],
        *,
        key: str | None = None,
        expire_after: float | None = None,
        request: str | None = None,
    ) -> Document:
        """Store a document that is not there yet, durably, as in the blocking API; the document made."""
        client_writes.refuse_unnamed(request, keyed=key is not None)
        key = client_writes.new_key() if key is None else key
        life_ms = client_writes.life(expire_after)
        write = client_writes.put(self.name, key, document, expects=client_writes.ABSENT, life_ms=life_ms)
        try:
            (version,) = await self._database._commit((write,), client_writes.request_id(request))
        except NoAnswerError as fault:
            fault.key = key
            raise
        assert version is not None
        await self._await_ack([version])
        return client_writes.inserted(write, version)

    async def insert_many(
        self,
        documents: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]],
        *,
        atomic: bool = False,
        expire_after: float | None = None,
        request: str | None = None,
    ) -> list[str]:
        """Store many documents that are not there yet, as in the blocking API; their keys."""
        client_writes.refuse_unnamed(request, keyed=isinstance(documents, Mapping))
        keys: list[str] = []
        pairs = client_writes.keyed(documents, keys)
        life_ms, absent = client_writes.life(expire_after), client_writes.ABSENT
        cut = client_writes.parts(self.name, pairs, atomic=atomic, expects=absent, life_ms=life_ms)
        await self._put_parts(cut, request)
        return keys

    async def replace(
        self,
        key: str,
        document: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        expire_after: float | None = None,
        request: str | None = None,
    ) -> Version:
        """Store a document whole, over whatever is there, also where the collection merges; as ``put``."""
        whole = client_writes.whole(document)
        return await self.put(key, whole, if_version=if_version, expire_after=expire_after, request=request)

    async def put(
        self,
        key: str,
        document: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        expire_after: float | None = None,
        request: str | None = None,
    ) -> Version:
        """Store a document, durably, as in the blocking API; the version made."""
        expects = client_writes.expected(if_version)
        life_ms = client_writes.life(expire_after)
        write = client_writes.put(self.name, key, document, await self._rule_for(document), expects, life_ms)
        (version,) = await self._database._commit((write,), client_writes.request_id(request))
        assert version is not None
        if isinstance(document, Document):
            document.was_put(write, version)
        await self._await_ack([version])
        return version

    async def put_many(
        self,
        documents: client_writes.Many,
        *,
        atomic: bool = False,
        expire_after: float | None = None,
        request: str | None = None,
    ) -> int:
        """Store many documents, each as ``put`` does, each part of up to 500 in one transaction; how many.

        Parts that were stored before an error stay stored; ``stored`` of the EntglError counts them.
        ``atomic``, ``expire_after`` and ``request`` as in the blocking API.
        """
        # one short read, and only where a document that was read is among them
        merges = functools.cache(self._blocking.merges)
        life_ms = client_writes.life(expire_after)
        cut = client_writes.parts(self.name, documents, merges, atomic=atomic, life_ms=life_ms)
        return await self._put_parts(cut, request)

    async def _put_parts(self, cut: Iterator[client_writes.Part], request: str | None) -> int:
        stored = 0
        try:
            for number, part in enumerate(cut):
                named = client_writes.request_id(request, number)
                versions = await self._database._commit(part.writes, named)
                stored += part.was_put(versions)
                await self._await_ack(versions)
        except EntglError as fault:
            fault.stored = stored
            raise
        return stored

    async def _rule_for(self, document: Mapping[str, Any]) -> client_writes.Merges:
        # only what was read needs to know
        merges = isinstance(document, Document) and await self._run(self._blocking.merges)
        return lambda: merges

    async def delete(
        self, key: str, *, if_version: Version | None = None, request: str | None = None
    ) -> Version | None:
        """Delete a document, durably, as in the blocking API; the version made, or None."""
        write = client_writes.delete(self.name, key, client_writes.expected(if_version))
        return await self._write(write, request)

    async def update(
        self,
        key: str,
        operators: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        upsert: bool = False,
        request: str | None = None,
    ) -> Version | None:
        """Change a document by operators, as in the blocking API; the version made, or None."""
        expects = client_writes.expected(if_version)
        write = client_writes.update(self.name, key, operators, expects, upsert=upsert)
        return await self._write(write, request)

    async def _write(self, write: Write, request: str | None) -> Version | None:
        """One write; the version made, or None where it met nothing."""
        versions = await self._database._commit((write,), client_writes.request_id(request))
        await self._await_ack(versions)
        return versions[0]

    async def _await_ack(self, versions: Sequence[Version | None]) -> None:
        """Wait until those who have to have what was made."""
        if self._ack is not None:
            made = [version for version in versions if version is not None]
            await self._database.await_spread(self._ack.need, made, self._ack.seconds)

    async def update_many(
        self, filter: Mapping[str, Any], operators: Mapping[str, Any], *, collation: str | None = None
    ) -> int:
        """Change all documents that match by operators, as in the blocking API; how many were found."""
        return await self._change_many(filter, collation, operators)

    async def delete_many(self, filter: Mapping[str, Any], *, collation: str | None = None) -> int:
        """Delete all documents that match, as in the blocking API; how many."""
        return await self._change_many(filter, collation, None)

    async def _change_many(
        self, filter: Mapping[str, Any], collation: str | None, operators: Mapping[str, Any] | None
    ) -> int:
        parts_of = client_writes.matching(self.name, filter, collation, operators)
        database, changed = self._database._blocking, 0
        pages = await self._run(lambda: database.documents.keys(self.name, filter, collation=collation))
        try:
            while page := await self._run(lambda: next(pages, None)):
                changed += await self._put_parts(parts_of(page), None)
        except EntglError as fault:
            fault.stored += changed
            client_writes.forget_request(fault)
            raise
        return changed

    async def create_index(
        self,
        paths: str | Sequence[str],
        *,
        unique: bool = False,
        where: Mapping[str, Any] | None = None,
        text: bool = False,
        everywhere: bool = False,
        name: str | None = None,
    ) -> str:
        """Index fields, as in the blocking API; the name of the index."""
        request = self._database._blocking.next_request() if everywhere else None
        message = indexing.creation(self.name, paths, where, name, request, unique=unique, text=text)
        await self._database.request(message)
        return message.name

    async def drop_index(self, name: str) -> None:
        """Drop an index, as in the blocking API. Raises NotFoundError."""
        await self._database.request(DropIndex(self._database._blocking.next_request(), self.name, name))

    async def rebuild_index(self, name: str) -> None:
        """Have an index built again from nothing, as in the blocking API. Raises NotFoundError."""
        await self._database.request(RebuildIndex(self.name, name))

    def changes(
        self, since: str | None = None, *, filter: Mapping[str, Any] | None = None, follow: bool = False
    ) -> Following:
        """Like ``Database.changes``, of this collection only."""
        return self._database.changes(since, collection=self.name, filter=filter, follow=follow)

    def watch(self, filter: Mapping[str, Any] | None = None, *, since: str | None = None) -> Watch:
        """Documents that enter a filter, change within it and leave it, as in the blocking API.

        It begins with its first step.
        """
        start = functools.partial(begin, self._blocking, self._database._blocking.token, filter, since)
        return Watch(self._run, start, lambda token: self.changes(token, follow=True))

    def live(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Live:
        """The result of ``find`` as a list, and again whenever that has changed, as in the blocking API."""
        most = LIVE_DOCUMENTS_MAX + 1 if limit is None else limit
        return self._database.live(
            self.name,
            lambda: list(self._blocking.find(filter, sort=sort, limit=most)),
            parse_filter(filter).matches,
        )
