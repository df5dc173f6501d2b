"""``entgldb.aio``: the Python API for asyncio, with many writes in flight on one connection.

Writes travel by one socket and share the node's commits: each is durable when its ``await`` returns.
Reads are short and happen in this process, in threads of their own, so that a slow disk stops no loop.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from collections.abc import Collection as Names
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from entgldb.client import database as client
from entgldb.client import nodes as client_nodes
from entgldb.client import peers as client_peers
from entgldb.client.aio.batch import Batch
from entgldb.client.aio.collection import Collection
from entgldb.client.aio.door import aside
from entgldb.client.aio.feed import Following
from entgldb.client.aio.live import Live
from entgldb.client.aio.requests import Requests
from entgldb.client.aio.threads import Threads
from entgldb.client.aio.transport import Transport
from entgldb.client.aio.typed import TypedCollection
from entgldb.client.database import TIMEOUT_SECONDS, Change, Conflict, Document
from entgldb.client.feeds.live import LiveQuery
from entgldb.client.feeds.selecting import NOW, Selected, Selection
from entgldb.client.hosting import tenants as client_tenants
from entgldb.client.spread import (
    ACK_SECONDS,
    AGAIN_SECONDS,
    LOCAL,
    SLICE_SECONDS,
    Ack,
    Spread,
    Waiting,
    Who,
    need_of,
)
from entgldb.client.transport import closed
from entgldb.client.upkeep.tracing import Tracer
from entgldb.messages.client import Relay, Report, Status
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Version
from entgldb.messages.schema import Json, Message
from entgldb.storage.documents.feed import Changes

__all__ = ["Change", "Collection", "Conflict", "Database", "Document", "Peers", "connect"]

IN_FLIGHT: Final = 256
"""Requests that wait for their answers at one time; one more waits for its turn."""
R = TypeVar("R")


class Opening:
    """A database that comes with ``async with`` or with ``await``, and then is closed by ``close``."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Database]]) -> None:
        self._made = make
        self._database: Database | None = None

    def __await__(self) -> Iterator[Any]:
        return self._made().__await__()

    async def __aenter__(self) -> Database:
        self._database = await self._made()
        return self._database

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.close()


class connect(Opening):  # noqa: N801 -- read as a function: ``async with connect(...)`` and ``await connect(...)``
    """Connect to the node that runs in ``directory``: ``async with connect("DIR") as db``.

    Or ``db = await connect("DIR")``, and ``await db.close()`` at the end. ``timeout`` is in seconds, for
    each request; ``in_flight`` bounds the requests that wait for answers; ``tracer`` makes a span of each.
    Raises NoNodeError when no node is running there.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".",
        *,
        timeout: float = TIMEOUT_SECONDS,
        in_flight: int = IN_FLIGHT,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(self._connected)
        self._directory, self._timeout, self._in_flight = directory, timeout, in_flight
        self._tracer = tracer

    async def _connected(self) -> Database:
        blocking = client.Database(self._directory, timeout=self._timeout)
        blocking.tracer = self._tracer
        made = Database(blocking, Requests(blocking.directory, self._timeout, self._in_flight))
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

    def __init__(self, blocking: client.Database, requests: Transport) -> None:
        """``blocking`` reads, ``requests`` go to the same store."""
        self.threads: Final = Threads()
        """Read for all that is asked here."""
        self.blocking: Final = blocking
        """The same database for threads of its user's own."""
        self._blocking, self._run = blocking, self.threads.run
        self.peers: Final = Peers(self)
        self.nodes: Final = Nodes(self)
        self.tenants: Final = Tenants(self)
        self._requests = requests
        self.directory: Final = blocking.directory

    def __repr__(self) -> str:
        return f"<Database {self.directory}>"

    def __getitem__(self, name: str) -> Collection:
        return Collection(self, name)

    @overload
    def collection(self, name: str) -> Collection: ...

    @overload
    def collection(self, name: str, kind: type[R]) -> TypedCollection[R]: ...

    def collection(self, name: str, kind: type[R] | None = None) -> Collection | TypedCollection[R]:
        """``db[name]``, or the same collection as values of a class, as in the blocking API."""
        return self[name] if kind is None else TypedCollection(self[name], kind)

    async def attach(self) -> None:
        """Connect to the node's socket now. Raises NoNodeError when no node is running."""
        if self.threads.closed:
            raise closed()
        await self._requests.attached()

    async def close(self) -> None:
        """Give file, socket and threads back for good; a later call raises InvalidError.

        A request that still waits gets a NoAnswerError.
        """
        if not self.threads.closed:
            self._requests.close()
            await self.threads.close(self._blocking.close)

    collections = aside(client.Database.collections)
    token = aside(client.Database.token)
    conflicts = aside(client.Database.conflicts)
    indexes = aside(client.Database.indexes)
    quarantine = aside(client.Database.quarantine)
    held = aside(client.Database.held)
    conflict_rule = aside(client.Database.conflict_rule)
    set_conflict_rule = aside(client.Database.set_conflict_rule)
    expiry = aside(client.Database.expiry)
    set_expiry = aside(client.Database.set_expiry)
    resolve = aside(client.Database.resolve)
    why = aside(client.Database.why)
    forks = aside(client.Database.forks)
    heal_origin = aside(client.Database.heal_origin)
    settle_unfit = aside(client.Database.settle_unfit)
    release_held = aside(client.Database.release_held)
    verify = aside(client.Database.verify)
    audit = aside(client.Database.audit)

    def changes(
        self,
        since: str | None = None,
        *,
        collection: str | None = None,
        collections: Names[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Following:
        """Changes after the token ``since``, oldest first, at least once; with a ``token``.

        As ``changes`` of the blocking API, to be read by ``async for``. It begins with its first step: for
        ``"now"`` before that, take ``await db.token()``.
        """
        wanted = Selection.of(collection, collections, filter)
        takes = None if wanted.is_plain else wanted.takes()

        def read(token: str | None) -> Changes | Selected:
            documents = self._blocking.documents
            since = documents.token() if token == NOW else token
            feed = documents.changes(since, collection=wanted.collection)
            return feed if takes is None else Selected(feed, takes)

        return Following(self._requests, self._run, read, since, follow=follow)

    def live(self, query: LiveQuery) -> Live:
        """The results of a query, again whenever they have changed: see ``Collection.live``."""
        return Live(self._requests, self._run, query)

    async def ask(self, actor: str, message: Message) -> Message:
        """Send an admin message to ``node``, ``store``, ``oplog``, ``sync``, ``election`` or ``gateway``."""
        return await self.request(Relay(actor, encode(message)))

    async def status(self, actor: str = "node") -> dict[str, Json]:
        """The status of an actor, in its own words."""
        answer = await self.ask(actor, Status())
        if not isinstance(answer, Report):
            raise EntglError(f"{actor} answered {answer} to a question for its status")
        return answer.body

    async def spread(self, version: Version) -> Spread:
        """Which other members have a version that a write gave, as far as this node knows now."""
        return await self.await_spread("", (version,), 0.0)

    async def wait_synced(self, timeout: float = 30.0, *, peers: Who = "all") -> Spread:
        """Wait until other members have all that this node has now, as in the blocking API."""
        return await self.await_spread(need_of(peers), None, timeout)

    async def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        """Wait until the members that are needed have these versions, or all that is here; see ``spread``."""
        waiting = Waiting(need, versions, seconds, min(SLICE_SECONDS, self._blocking.timeout / 2))
        for question in waiting.questions():
            try:
                waiting.answered(await self.ask("sync", question))
            except EntglError as fault:
                waiting.failed(fault)
                await asyncio.sleep(AGAIN_SECONDS)
        return waiting.outcome()

    def batch(
        self,
        *,
        request: str | None = None,
        ack: Who = LOCAL,
        ack_timeout: float = ACK_SECONDS,
    ) -> Batch:
        """Write to several collections in one transaction, as in the blocking API.

        ``async with db.batch() as batch: batch["users"].put("u1", {...})``: only the end of the block waits.
        """
        return Batch(self, request, Ack.of(ack, ack_timeout))

    async def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer.

        Raises what the node refused it with; NoAnswerError when none came within ``timeout``.
        """
        with self._blocking.settling(message):
            return await self._requests.request(message)


class Peers:
    """``db.peers``: the replicated list of remote peers, as in the blocking API."""

    def __init__(self, database: Database) -> None:
        self._run, self._blocking = database.threads.run, database._blocking.peers

    async def update_remote_peer(self, node_id: str, **fields: Any) -> bool:
        """Change the given fields, as in the blocking API; False when nothing differs."""
        return await self._run(functools.partial(self._blocking.update_remote_peer, node_id, **fields))

    add_cloud_peer = aside(client_peers.Peers.add_cloud_peer)
    add_static_peer = aside(client_peers.Peers.add_static_peer)
    rotate_secret = aside(client_peers.Peers.rotate_secret)
    secrets = aside(client_peers.Peers.secrets)
    enable_peer = aside(client_peers.Peers.enable_peer)
    disable_peer = aside(client_peers.Peers.disable_peer)
    remove_remote_peer = aside(client_peers.Peers.remove_remote_peer)
    get_remote_peer = aside(client_peers.Peers.get_remote_peer)
    get_all_remote_peers = aside(client_peers.Peers.get_all_remote_peers)
    test_peer = aside(client_peers.Peers.test_peer)


class Nodes:
    """``db.nodes``: the nodes of the cluster, as in the blocking API."""

    def __init__(self, database: Database) -> None:
        self._run, self._blocking = database.threads.run, database._blocking.nodes

    all = aside(client_nodes.Nodes.all)
    retire = aside(client_nodes.Nodes.retire)
    members = aside(client_nodes.Nodes.members)
    refused = aside(client_nodes.Nodes.refused)
    accept = aside(client_nodes.Nodes.accept)
    expel = aside(client_nodes.Nodes.expel)
    known_secrets = aside(client_nodes.Nodes.known_secrets)
    rotate_key = aside(client_nodes.Nodes.rotate_key)
    cluster_key = aside(client_nodes.Nodes.cluster_key)


class Tenants:
    """``db.tenants``: the tenants of a cloud node, as in the blocking API."""

    def __init__(self, database: Database) -> None:
        self._run, self._blocking = database.threads.run, database._blocking.tenants

    all = aside(client_tenants.Tenants.all)
    get = aside(client_tenants.Tenants.get)
    add = aside(client_tenants.Tenants.add)
    limit = aside(client_tenants.Tenants.limit)
    suspend = aside(client_tenants.Tenants.suspend)
    resume = aside(client_tenants.Tenants.resume)
    delete = aside(client_tenants.Tenants.delete)
    status = aside(client_tenants.Tenants.status)
