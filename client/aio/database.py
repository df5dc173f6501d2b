"""``entgldb.aio``: the Python API for asyncio, with many writes in flight on one connection.

Writes travel by one socket and share the node's commits: each is durable when its ``await`` returns.
Reads are short and happen in this process, in threads of their own, so that a slow disk stops no loop.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from entgldb.client import database as client
from entgldb.client import nodes as client_nodes
from entgldb.client import peers as client_peers
from entgldb.client import writes as client_writes
from entgldb.client.aio.feed import PAGE, Following
from entgldb.client.aio.requests import Requests
from entgldb.client.database import TIMEOUT_SECONDS, Change, Conflict, Document
from entgldb.messages.client import Commit, CreateIndex, Relay, Report, RequestId, Status, Write
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Version
from entgldb.messages.schema import Json, Message
from entgldb.storage.documents.query import Changes

__all__ = ["Change", "Collection", "Conflict", "Database", "Document", "Peers", "connect"]

IN_FLIGHT: Final = 256
"""Requests that wait for their answers at one time; one more waits for its turn."""
READERS: Final = 4
"""Threads that read; a long query holds one of them."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def _aside(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The same method of the blocking API, called in a thread and awaited."""

    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        made: R = await self._run(functools.partial(method, self._blocking, *args, **kwargs))
        return made

    functools.update_wrapper(call, method)  # for help()
    return call


class connect:  # noqa: N801 -- read as a function: ``async with connect(...)`` and ``await connect(...)``
    """Connect to the node that runs in ``directory``: ``async with connect("DIR") as db``.

    Or ``db = await connect("DIR")``, and ``await db.close()`` at the end. ``timeout`` is in seconds, for
    each request; ``in_flight`` bounds the requests that wait for answers. Raises NoNodeError when no node
    is running there.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".",
        *,
        timeout: float = TIMEOUT_SECONDS,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._make = functools.partial(Database, directory, timeout=timeout, in_flight=in_flight)
        self._database: Database | None = None

    def __await__(self) -> Iterator[Any]:
        return self._connect().__await__()

    async def __aenter__(self) -> Database:
        self._database = await self._connect()
        return self._database

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()

    async def _connect(self) -> Database:
        made = self._make()
        try:
            await made.attach()
        except BaseException:
            await made.close()
            raise
        return made


class Database:
    """A node's collections: ``db["users"]``. For one event loop, from any of its tasks.

    Requests are sent in the order in which they were begun. A connection that breaks is made anew and
    what had no answer is sent again with the same request id, so that nothing is done twice; the order
    among those is not kept.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        timeout: float = TIMEOUT_SECONDS,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._blocking = client.Database(directory, timeout=timeout)
        self.peers: Final = Peers(self)
        self.nodes: Final = Nodes(self)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="entgldb-read")
        self._requests = Requests(self._blocking.directory, timeout, in_flight)
        self._closed = False

    def __getitem__(self, name: str) -> Collection:
        return Collection(self, name)

    async def attach(self) -> None:
        """Connect to the node's socket now. Raises NoNodeError when no node is running."""
        if self._closed:
            raise client.closed()
        await self._requests.attached()

    async def close(self) -> None:
        """Give file, socket and threads back for good; a later call raises InvalidError.

        A request that still waits gets a NoAnswerError.
        """
        if not self._closed:
            self._closed = True
            self._requests.close()
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._blocking.close)
            self._threads.shutdown(wait=False)
            await work

    collections = _aside(client.Database.collections)
    token = _aside(client.Database.token)
    conflicts = _aside(client.Database.conflicts)
    quarantine = _aside(client.Database.quarantine)
    held = _aside(client.Database.held)
    conflict_rule = _aside(client.Database.conflict_rule)
    set_conflict_rule = _aside(client.Database.set_conflict_rule)
    resolve = _aside(client.Database.resolve)

    def changes(
        self, since: str | None = None, *, collection: str | None = None, follow: bool = False
    ) -> Following:
        """Changes after the token ``since``, oldest first, at least once; with a ``token``.

        As ``changes`` of the blocking API, to be read by ``async for``.
        """
        return Following(self._requests, self._run, self._changes, since, collection, follow=follow)

    def _changes(self, since: str | None, collection: str | None) -> Changes:
        return self._blocking.documents.changes(since, collection=collection)

    async def ask(self, actor: str, message: Message) -> Message:
        """Send an admin message to ``node``, ``store``, ``oplog``, ``sync``, ``election`` or ``gateway``."""
        return await self.request(Relay(actor, encode(message)))

    async def status(self, actor: str = "node") -> dict[str, Json]:
        """The status of an actor, in its own words."""
        answer = await self.ask(actor, Status())
        if not isinstance(answer, Report):
            raise EntglError(f"{actor} answered {answer} to a question for its status")
        return answer.body

    async def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer.

        Raises what the node refused it with; NoAnswerError when none came within ``timeout``.
        """
        with self._blocking.settling(message):
            return await self._requests.request(message)

    async def _commit(self, writes: tuple[Write, ...], request: RequestId | None) -> list[Version | None]:
        commit = Commit(request or self._blocking.next_request(), writes)
        return client_writes.versions(await self.request(commit))

    async def _run(self, work: Callable[[], R]) -> R:
        if self._closed:
            raise client.closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _paged(self, found: Iterator[R]) -> AsyncIterator[R]:
        while page := await self._run(lambda: list(islice(found, PAGE))):
            for one in page:
                yield one


class Collection:
    """The documents of one collection."""

    def __init__(self, database: Database, name: str) -> None:
        self.name: Final = name
        self._database = database
        self._blocking = client.Collection(database._blocking, name)
        self._run = database._run

    get = _aside(client.Collection.get)
    count = _aside(client.Collection.count)
    history = _aside(client.Collection.history)
    undelete = _aside(client.Collection.undelete)

    async def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> AsyncIterator[Document]:
        """The documents that match, as in the blocking API: ``async for document in users.find(...)``."""
        find = functools.partial(self._blocking.find, filter, sort=sort, limit=limit, skip=skip)
        async for document in self._database._paged(await self._run(find)):
            yield document

    async def put(self, key: str, document: Mapping[str, Any], *, request: str | None = None) -> Version:
        """Store a document, durably, as in the blocking API; the version made."""
        write = client_writes.put(self.name, key, document, await self._rule_for(document))
        (version,) = await self._database._commit((write,), client_writes.request_id(request))
        assert version is not None
        if isinstance(document, Document):
            document.was_put(write, version)
        return version

    async def put_many(
        self, documents: client_writes.Many, *, atomic: bool = False, request: str | None = None
    ) -> int:
        """Store many documents, each as ``put`` does, each part of up to 500 in one transaction; how many.

        Parts that were stored before an error stay stored; ``stored`` of the EntglError counts them.
        ``atomic`` and ``request`` as in the blocking API.
        """
        stored = 0
        # one short read, and only where a document that was read is among them
        merges = functools.cache(self._blocking.merges)
        cut = client_writes.parts(self.name, documents, merges, atomic=atomic)
        try:
            for number, part in enumerate(cut):
                named = client_writes.request_id(request, number)
                stored += part.was_put(await self._database._commit(part.writes, named))
        except EntglError as fault:
            fault.stored = stored
            raise
        return stored

    async def _rule_for(self, document: Mapping[str, Any]) -> client_writes.Merges:
        # only what was read needs to know
        merges = isinstance(document, Document) and await self._run(self._blocking.merges)
        return lambda: merges

    async def delete(self, key: str, *, request: str | None = None) -> Version | None:
        """Delete a document, durably; the version made, or None where there was none."""
        named = client_writes.request_id(request)
        return (await self._database._commit((client_writes.delete(self.name, key),), named))[0]

    async def create_index(self, path: str) -> None:
        """Index a field path (``"address.city"``) on this node."""
        await self._database.request(CreateIndex(self.name, path))

    def changes(self, since: str | None = None, *, follow: bool = False) -> Following:
        """Like ``Database.changes``, of this collection only."""
        return self._database.changes(since, collection=self.name, follow=follow)


class Peers:
    """``db.peers``: the replicated list of remote peers, as in the blocking API."""

    def __init__(self, database: Database) -> None:
        self._run, self._blocking = database._run, database._blocking.peers

    async def update_remote_peer(self, node_id: str, **fields: Any) -> bool:
        """Change the given fields, as in the blocking API; False when nothing differs."""
        return await self._run(functools.partial(self._blocking.update_remote_peer, node_id, **fields))

    add_cloud_peer = _aside(client_peers.Peers.add_cloud_peer)
    add_static_peer = _aside(client_peers.Peers.add_static_peer)
    enable_peer = _aside(client_peers.Peers.enable_peer)
    disable_peer = _aside(client_peers.Peers.disable_peer)
    remove_remote_peer = _aside(client_peers.Peers.remove_remote_peer)
    get_remote_peer = _aside(client_peers.Peers.get_remote_peer)
    get_all_remote_peers = _aside(client_peers.Peers.get_all_remote_peers)
    test_peer = _aside(client_peers.Peers.test_peer)


class Nodes:
    """``db.nodes``: the nodes of the cluster, as in the blocking API."""

    def __init__(self, database: Database) -> None:
        self._run, self._blocking = database._run, database._blocking.nodes

    all = _aside(client_nodes.Nodes.all)
    retire = _aside(client_nodes.Nodes.retire)
