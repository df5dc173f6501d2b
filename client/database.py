"""The Python API: reads in this very process, writes by the socket of the running node."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as Names
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from entgldb.client import conflicts as client_merging
from entgldb.client.collection import Collection
from entgldb.client.feeds.selecting import NOW, Selected, Selection
from entgldb.client.spread import ACK_SECONDS, LOCAL, Ack, Who
from entgldb.client.transport import SocketTransport, Transport, closed
from entgldb.client.upkeep import audit as auditing
from entgldb.client.upkeep import decisions
from entgldb.client.writes import Document
from entgldb.messages.client import RequestId, Status
from entgldb.messages.errors import EntglError
from entgldb.messages.schema import Json, Message
from entgldb.storage.documents.conflicts import Conflict
from entgldb.storage.documents.feed import Change, Changes
from entgldb.storage.documents.query import Documents

if TYPE_CHECKING:
    from entgldb.client.batch import Batch
    from entgldb.client.feed import Following
    from entgldb.client.feeds.live import Live, LiveQuery
    from entgldb.client.forms.typed import TypedCollection
    from entgldb.client.hosting.tenants import Tenants
    from entgldb.client.nodes import Nodes
    from entgldb.client.peers import Peers
    from entgldb.client.spread import Spread
    from entgldb.client.upkeep.tracing import Tracer
    from entgldb.messages.model import Version
    from entgldb.storage.indexes.listing import IndexInfo
    from entgldb.storage.log.held import Waiting
    from entgldb.storage.log.unfit import Unfit

__all__ = ["Change", "Conflict", "Database", "Document", "connect"]

T = TypeVar("T")
TIMEOUT_SECONDS: Final = 10.0
"""How long a request waits for its answer; a restarting actor is back well within."""
AWAITED_MAX: Final = 1000
"""Requests without an answer whose repetition stays harmless; beyond it the oldest are given up."""


def connect(
    directory: str | os.PathLike[str] = ".",
    *,
    timeout: float = TIMEOUT_SECONDS,
    tracer: Tracer | None = None,
) -> Database:
    """Connect to the node that runs in ``directory``.

    Raises NoNodeError when none is running there. ``timeout`` is in seconds, for each request. ``tracer``
    makes a span of each, as one of OpenTelemetry does.
    """
    database = Database(directory, timeout=timeout)
    database.tracer = tracer
    try:
        database.attach()
    except BaseException:
        database.close()
        raise
    return database


class Database:
    """A node's collections: ``db["users"]``. Safe to use from several threads."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        timeout: float = TIMEOUT_SECONDS,
        transport: Transport | None = None,
    ) -> None:
        """``transport``: another way than the socket of the node that runs there."""
        self.directory: Final = Path(directory)
        self.timeout = timeout
        self.tracer: Tracer | None = None
        """Makes a span of each request to the node."""
        self._transport = transport or SocketTransport(self.directory)
        self._lock = threading.RLock()
        self._documents: Documents | None = None
        self._replaced: list[Documents] = []
        """Files that another one has replaced."""
        self._client = os.urandom(16)
        self._counter = 0
        self._awaited: dict[int, None] = {}
        """Counters of requests whose outcome is not known yet, in order."""
        self._over: Callable[[], EntglError] | None = None
        """Makes the error that says why it cannot be used any more."""

    def __repr__(self) -> str:
        return f"<Database {self.directory}>"

    def __getitem__(self, name: str) -> Collection:
        return Collection(self, name)

    @overload
    def collection(self, name: str) -> Collection: ...

    @overload
    def collection(self, name: str, kind: type[T]) -> TypedCollection[T]: ...

    def collection(self, name: str, kind: type[T] | None = None) -> Collection | TypedCollection[T]:
        """``db[name]``, or the same collection as values of a class: a dataclass, an attrs class, a pydantic
        model or a msgspec Struct.

        Raises UnsupportedError for a class of another kind.
        """
        if kind is None:
            return self[name]
        from entgldb.client.forms.typed import TypedCollection

        return TypedCollection(self[name], kind)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # each verb imports what it uses: a cold `get` is mostly imports
    @cached_property
    def peers(self) -> Peers:
        """The replicated list of remote peers."""
        from entgldb.client.peers import Peers

        return Peers(self)

    @cached_property
    def nodes(self) -> Nodes:
        """The nodes of the cluster."""
        from entgldb.client.nodes import Nodes

        return Nodes(self)

    @cached_property
    def tenants(self) -> Tenants:
        """The tenants of a cloud node."""
        from entgldb.client.hosting.tenants import Tenants

        return Tenants(self)

    def close(self) -> None:
        """Give file and socket back for good; a later call raises InvalidError."""
        if self._over is None:
            self.let_go()
            self._over = closed
            self._transport.close()

    def let_go(self) -> None:
        """Give file and socket back until the next call."""
        self._transport.let_go()
        with self._lock:
            for documents in (*self._replaced, self._documents):
                if documents is not None:
                    documents.close()
            self._replaced.clear()
            self._documents = None

    def abandon(self, why: Callable[[], EntglError]) -> None:
        """In a process that was forked: refuse every call with an error that ``why`` makes, touch nothing."""
        self._over = why
        # other threads, which are not in this process, may have had it
        self._lock = threading.RLock()
        if self._documents is not None:
            self._documents.abandon(why)

    def attach(self) -> None:
        """Connect to the node's socket now.

        Raises NoNodeError when no node is running, BusyError when it lets nobody in for ``timeout`` seconds.
        """
        self._transport.attach(self.timeout)

    @property
    def documents(self) -> Documents:
        """The file, opened read-only in this process."""
        documents = self._documents
        if documents is not None and self._over is None and not documents.replaced():
            return documents
        return self._opened()

    def collections(self, *, system: bool = False) -> list[str]:
        """Names of all collections that ever had a document on this node."""
        return self.documents.collections(system=system)

    def indexes(self, collection: str | None = None) -> list[IndexInfo]:
        """The indexes that this node has, or those of one collection, by collection and name."""
        from entgldb.storage.indexes.listing import indexes

        return self.documents.put_to(lambda connection: indexes(connection, collection))

    def conflicts(
        self, collection: str | None = None, *, skip: int = 0, limit: int | None = None
    ) -> list[Conflict]:
        """Versions that lost to a concurrent write and are kept to be looked at; ``limit`` or all."""
        return self.documents.conflicts(collection, skip, limit)

    conflict_rule = client_merging.conflict_rule
    set_conflict_rule = client_merging.set_conflict_rule
    expiry = client_merging.expiry
    set_expiry = client_merging.set_expiry
    resolve = client_merging.resolve
    why = decisions.why
    forks = decisions.forks
    heal_origin = decisions.heal_origin
    settle_unfit = decisions.settle_unfit
    release_held = decisions.release_held
    verify = decisions.verify
    audit = auditing.audit

    def quarantine(self) -> list[Unfit]:
        """Entries that could not be applied on this node and wait for a decision."""
        from entgldb.storage.log.unfit import list_unfit

        return self.documents.put_to(list_unfit)

    def held(self) -> list[Waiting]:
        """The entries that this node holds back because their writer's clock runs too far ahead, by
        origin."""
        from entgldb.storage.log.held import list_held

        return self.documents.put_to(list_held)

    def token(self) -> str:
        """The change token after everything that is here now."""
        return self.documents.token()

    def changes(
        self,
        since: str | None = None,
        *,
        collection: str | None = None,
        collections: Names[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Changes | Following | Selected:
        """Changes after the token ``since``, oldest first, at least once; an iterator with a ``token``.

        Each key comes with its present version. ``since="now"``: what comes from here on. ``follow`` waits
        for more for ever; otherwise it ends when all is told. The iterator's ``token`` goes with the node,
        whatever matches: where little matches, keep it instead of the last change's.

        ``collection``, or ``collections``: of these alone; otherwise of all but the system's. ``filter``: of
        documents that match it as they are now, and all deletes; ``watch`` tells what leaves a filter, too.

        Raises TokenExpired for a token of another database file, or one so old that deletes after it may have
        been forgotten.
        """
        wanted = Selection.of(collection, collections, filter)
        since = self.token() if since == NOW else since
        feed = self._feed(since, wanted.collection, follow=follow)
        return feed if wanted.is_plain else Selected(feed, wanted.takes())

    def _feed(self, since: str | None, collection: str | None, *, follow: bool) -> Changes | Following:
        if not follow:
            return self.documents.changes(since, collection=collection)
        from entgldb.client.feed import Following

        return Following(self._transport.follow, lambda: self.documents, since, collection)

    def live(self, query: LiveQuery) -> Live:
        """The results of a query, again whenever they have changed: see ``Collection.live``."""
        from entgldb.client.feeds.live import Live

        return Live(self._transport.follow, lambda: self.documents, query)

    def ask(self, actor: str, message: Message, *, timeout: float | None = None) -> Message:
        """Send an admin message to ``node``, ``store``, ``oplog``, ``sync``, ``election`` or ``gateway``.

        Like ``request``, it is sent again over a new connection when one breaks: doing any of these
        messages twice is harmless.
        """
        return self._transport.ask(actor, message, self.timeout if timeout is None else timeout)

    def status(self, actor: str = "node") -> dict[str, Json]:
        """The status of an actor, in its own words."""
        body: dict[str, Json] = getattr(self.ask(actor, Status()), "body", {})
        return body

    def spread(self, version: Version) -> Spread:
        """Which other members have a version that a write gave, as far as this node knows now."""
        return self.await_spread("", (version,), 0.0)

    def wait_synced(self, timeout: float = 30.0, *, peers: Who = "all") -> Spread:
        """Wait until other members have all that this node has now, its own writes and others'.

        ``peers``: ``"all"``, how many, ``"cloud"`` (a cloud peer), or node ids. ``timeout`` in seconds.
        Raises SpreadError, which tells who has it, when the time is over.
        """
        from entgldb.client.spread import need_of

        return self.await_spread(need_of(peers), None, timeout)

    def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        """Wait until the members that are needed have these versions, or all that is here; see ``spread``."""
        from entgldb.client.spread import wait

        return wait(self._transport, need, versions, seconds)

    def batch(
        self,
        *,
        request: str | None = None,
        ack: Who = LOCAL,
        ack_timeout: float = ACK_SECONDS,
    ) -> Batch:
        """Write to several collections in one transaction, here and, as one group, on every other node.

        ``with db.batch() as batch: batch["stock"].update(...); batch["orders"].insert(...)``: a collection of
        a batch has put, replace, insert, update and delete. All are sent when the block ends, none where it
        raises. A write that is refused, such as by ``if_version``, undoes all and raises at the end of the
        block. A write meets what the writes before it leave. ``batch.versions`` has the versions afterwards.

        At most 10,000 writes and 16 MiB. ``request`` as for ``put``, with keys for all inserts; ``ack`` and
        ``ack_timeout`` as for ``Collection.with_ack``.
        """
        from entgldb.client.batch import Batch

        return Batch(self, request, Ack.of(ack, ack_timeout))

    def _opened(self) -> Documents:
        if self._over is not None:
            raise self._over()
        with self._lock:
            if self._documents is not None and self._documents.replaced():
                # a thread that still reads the old file reads it to the end
                self._replaced.append(self._documents)
                self._documents = None
            if self._documents is None:
                self._documents = self._transport.open_documents()
            return self._documents

    def next_request(self) -> RequestId:
        """An id that makes a retry harmless."""
        with self._lock:
            self._counter += 1
            self._awaited[self._counter] = None
            if len(self._awaited) > AWAITED_MAX:
                del self._awaited[next(iter(self._awaited))]
            return RequestId(self._client, self._counter, next(iter(self._awaited)))

    @contextlib.contextmanager
    def settling(self, message: Message) -> Iterator[None]:
        """The outcome of a request is known when this ends, unless it raises something indefinite."""
        definite = True
        try:
            with self._span(message):
                yield
        except BaseException as fault:
            definite = isinstance(fault, EntglError) and fault.definite
            raise
        finally:
            request = getattr(message, "request", None)
            if definite and isinstance(request, RequestId) and request.client == self._client:
                with self._lock:
                    self._awaited.pop(request.counter, None)

    def _span(self, message: Message) -> contextlib.AbstractContextManager[object]:
        if self.tracer is None:
            return contextlib.nullcontext()
        from entgldb.client.upkeep.tracing import span

        return span(self.tracer, message)

    def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer.

        A connection that breaks is made anew and the same request sent again until ``timeout``: its
        request id keeps it from being done twice. Raises what the node refused it with, NoNodeError at
        once where no node was there for as long as that.
        """
        with self.settling(message):
            return self._transport.request(message, self.timeout)

    def begin(self, message: Message) -> Callable[[], Message]:
        """Send a request; the function returned waits for the answer and keeps the promises of
        ``request``."""
        wait = self._transport.begin(message, self.timeout)

        def answer() -> Message:
            with self.settling(message):
                return wait()

        return answer
