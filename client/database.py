"""The Python API: reads in this very process, writes by the socket of the running node."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import conflicts as client_merging
from entgldb.client import writes as client_writes
from entgldb.client.access import check_access
from entgldb.client.writes import Document
from entgldb.messages.client import Commit, CreateIndex, RequestId, Status, Write
from entgldb.messages.errors import (
    BusyError,
    EntglError,
    InvalidError,
    NoAnswerError,
    NoNodeError,
    NotFoundError,
)
from entgldb.messages.model import Version
from entgldb.messages.schema import Json, Message
from entgldb.storage.documents.conflicts import Conflict
from entgldb.storage.documents.query import Change, Changes, Documents

if TYPE_CHECKING:
    from entgldb.client.feed import Following
    from entgldb.client.nodes import Nodes
    from entgldb.client.peers import Peers
    from entgldb.client.wire import WireClient
    from entgldb.storage.documents.history import History
    from entgldb.storage.log.held import Waiting
    from entgldb.storage.log.unfit import Unfit

__all__ = ["Change", "Collection", "Conflict", "Database", "Document", "connect"]

TIMEOUT_SECONDS: Final = 10.0
"""How long a request waits for its answer; a restarting actor is back well within."""
AWAITED_MAX: Final = 1000
"""Requests without an answer whose repetition stays harmless; beyond it the oldest are given up."""
RETRY_SECONDS: Final = 0.05
"""Between two attempts to reach a node whose store is being restarted."""


def connect(directory: str | os.PathLike[str] = ".", *, timeout: float = TIMEOUT_SECONDS) -> Database:
    """Connect to the node that runs in ``directory``.

    Raises NoNodeError when none is running there. ``timeout`` is in seconds, for each request.
    """
    database = Database(directory, timeout=timeout)
    try:
        database.attach()
    except BaseException:
        database.close()
        raise
    return database


class Database:
    """A node's collections: ``db["users"]``. Safe to use from several threads."""

    def __init__(self, directory: str | os.PathLike[str], *, timeout: float = TIMEOUT_SECONDS) -> None:
        self.directory: Final = Path(directory)
        self.timeout = timeout
        self._lock = threading.RLock()
        self._documents: Documents | None = None
        self._replaced: list[Documents] = []
        """Files that another one has replaced."""
        self._wire: WireClient | None = None
        self._lost_at: float | None = None
        self._client = os.urandom(16)
        self._counter = 0
        self._awaited: dict[int, None] = {}
        """Counters of requests whose outcome is not known yet, in order."""
        self._closed = False

    def __getitem__(self, name: str) -> Collection:
        return Collection(self, name)

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

    def close(self) -> None:
        """Give file and socket back for good; a later call raises InvalidError."""
        self._closed = True
        self.let_go()

    def let_go(self) -> None:
        """Give file and socket back until the next call."""
        with self._lock:
            for documents in (*self._replaced, self._documents):
                if documents is not None:
                    documents.close()
            self._replaced.clear()
            if self._wire is not None:
                self._wire.close()
            self._documents = self._wire = None

    def attach(self, patience: float | None = None) -> None:
        """Connect to the node's socket now.

        Raises NoNodeError when no node is running, BusyError when it lets nobody in for ``patience``
        seconds (None: ``timeout``).
        """
        with self._lock:
            self._refuse_closed()
            if self._wire is None:
                check_access(self.directory)
                from entgldb.client.wire import WireClient

                self._wire = WireClient(self.directory, self.timeout if patience is None else patience)
                self._lost_at = None

    @property
    def documents(self) -> Documents:
        """The file, opened read-only in this process."""
        with self._lock:
            self._refuse_closed()
            if self._documents is not None and self._documents.replaced():
                # a thread that still reads the old file reads it to the end
                self._replaced.append(self._documents)
                self._documents = None
            if self._documents is None:
                check_access(self.directory)
                try:
                    self._documents = Documents.open(self.directory)
                except NotFoundError:
                    raise NoNodeError(
                        f"no node is running in {self.directory}",
                        hint=f"entgldb start --dir {self.directory}",
                    ) from None
            return self._documents

    def collections(self, *, system: bool = False) -> list[str]:
        """Names of all collections that ever had a document on this node."""
        return self.documents.collections(system=system)

    def conflicts(self, collection: str | None = None) -> list[Conflict]:
        """Versions that lost to a concurrent write and are kept to be looked at."""
        return self.documents.conflicts(collection)

    conflict_rule = client_merging.conflict_rule
    set_conflict_rule = client_merging.set_conflict_rule
    resolve = client_merging.resolve

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
        self, since: str | None = None, *, collection: str | None = None, follow: bool = False
    ) -> Changes | Following:
        """Changes after the token ``since``, oldest first, at least once; an iterator with a ``token``.

        Each key comes with its present version. ``follow`` waits for more for ever; otherwise it ends
        when all is told. The iterator's ``token`` goes with the node, whatever matches: where little
        matches, keep it instead of the last change's. Raises TokenExpired for a token of another
        database file, or one so old that deletes after it may have been forgotten.
        """
        if not follow:
            return self.documents.changes(since, collection=collection)
        from entgldb.client.feed import Following

        return Following(self.directory, lambda: self.documents, since, collection)

    def ask(self, actor: str, message: Message, *, timeout: float | None = None) -> Message:
        """Send an admin message to ``node``, ``store``, ``oplog``, ``sync``, ``election`` or ``gateway``.

        Like ``request``, it is sent again over a new connection when one breaks: doing any of these
        messages twice is harmless.
        """
        patience = self.timeout if timeout is None else timeout
        return self._insist(lambda wire, left: wire.relay(actor, message, left), patience)

    def status(self, actor: str = "node") -> dict[str, Json]:
        """The status of an actor, in its own words."""
        body: dict[str, Json] = getattr(self.ask(actor, Status()), "body", {})
        return body

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
            yield
        except BaseException as fault:
            definite = isinstance(fault, EntglError) and fault.definite
            raise
        finally:
            request = getattr(message, "request", None)
            if definite and isinstance(request, RequestId) and request.client == self._client:
                with self._lock:
                    self._awaited.pop(request.counter, None)

    def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer.

        A connection that breaks is made anew and the same request sent again until ``timeout``: its
        request id keeps it from being done twice. Raises what the node refused it with, NoNodeError at
        once where no node was there for as long as that.
        """
        with self.settling(message):
            return self._insist(lambda wire, left: wire.request(message, left), self.timeout, message)

    def begin(self, message: Message) -> Callable[[], Message]:
        """Send a request; the function returned waits for the answer and keeps the promises of
        ``request``."""
        deadline = time.monotonic() + self.timeout
        sent: tuple[WireClient, int] | None = None
        with self._lock, contextlib.suppress(NoNodeError, NoAnswerError, BusyError):
            self.attach()
            assert self._wire is not None
            sent = self._wire, self._wire.send(message, self.timeout)

        def finish(wire: WireClient, left: float) -> Message:
            if sent is not None and sent[0] is wire:
                return wire.answer(sent[1], left)
            return wire.request(message, left)

        def answer() -> Message:
            with self.settling(message):
                left = max(deadline - time.monotonic(), RETRY_SECONDS)
                return self._insist(finish, left, message, sent=sent is not None)

        return answer

    def _insist(
        self,
        send: Callable[[WireClient, float], Message],
        timeout: float,
        message: Message | None = None,
        *,
        sent: bool = False,
    ) -> Message:
        begun = time.monotonic()
        while True:
            left = max(begun + timeout - time.monotonic(), RETRY_SECONDS)
            try:
                with self._lock:
                    self.attach(left)
                    assert self._wire is not None
                    sent = True
                    return send(self._wire, left)
            except (NoNodeError, NoAnswerError, BusyError) as fault:
                self._detach()
                if isinstance(fault, NoNodeError) and not sent and not self._may_return():
                    raise
                waited = time.monotonic() - begun
                if waited + RETRY_SECONDS >= timeout:
                    if isinstance(fault, BusyError) and not sent:
                        raise
                    from entgldb.client.wire import no_answer

                    request = message.request if isinstance(message, Commit) else None
                    raise no_answer(self.directory, waited, fault, request) from None
                time.sleep(RETRY_SECONDS)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise closed()

    def _detach(self) -> None:
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._lost_at = time.monotonic()
            self._wire = None

    def _may_return(self) -> bool:
        """Whether the node was here so lately that it may be in the middle of a restart."""
        return self._lost_at is not None and time.monotonic() - self._lost_at < self.timeout


def closed() -> InvalidError:
    """The error of a database that was closed."""
    return InvalidError("this database was closed", hint="connect again")


class Collection:
    """The documents of one collection."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self.name: Final = name

    def get(self, key: str) -> Document | None:
        """One document with the version that was read, or None."""
        found = self._database.documents.read(self.name, key)
        return None if found is None else client_writes.document(self.name, key, found)

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> Iterator[Document]:
        """The documents that match, in the order of ``sort`` (``"age"``, ``"-age"``), then by key.

        Filters: equality, ``$gt $gte $lt $lte $in $and $or``; anything else raises UnsupportedError.
        """
        found = self._database.documents.read_all(self.name, filter, sort=sort, limit=limit, skip=skip)
        return (client_writes.document(self.name, key, read) for key, read in found)

    def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents match."""
        return self._database.documents.count(self.name, filter)

    def put(self, key: str, document: Mapping[str, Any], *, request: str | None = None) -> Version:
        """Store a document, durably; the version made.

        In a collection that merges, a document that ``get`` or ``find`` gave is written as what was changed
        in it since; any other is put whole, over whatever is there.

        ``request``: any text of yours that names this write, or ``NoAnswerError.request`` of one that had no
        answer. A write that was done under that name is not done again: the version made then is returned.
        """
        write = client_writes.put(self.name, key, document, self.merges)
        (version,) = self._begin((write,), client_writes.request_id(request))()
        assert version is not None
        if isinstance(document, Document):
            document.was_put(write, version)
        return version

    def merges(self) -> bool:
        """Whether concurrent writes to its documents are merged field by field, as far as the node knows."""
        return self._database.documents.conflict_rule(self.name) == "merge"

    def put_many(
        self, documents: client_writes.Many, *, atomic: bool = False, request: str | None = None
    ) -> int:
        """Store many documents, each as ``put`` does, each part of up to 500 in one transaction; how many.

        Parts that were stored before an error stay stored; ``stored`` of the EntglError counts them.
        ``atomic``: all in one transaction, of 10,000 documents and 16 MiB at most. ``request`` as for
        ``put``; it is repeated with the same documents.
        """
        stored = 0
        under_way: Callable[[], int] | None = None
        try:
            # a part is made while the node writes the one before
            cut = client_writes.parts(self.name, documents, self.merges, atomic=atomic)
            for number, part in enumerate(cut):
                if under_way is not None:
                    answer, under_way = under_way, None
                    stored += answer()
                under_way = self._begin_part(part, client_writes.request_id(request, number))
            if under_way is not None:
                answer, under_way = under_way, None
                stored += answer()
        except Exception as fault:
            if under_way is not None:
                with contextlib.suppress(EntglError):
                    stored += under_way()
            if isinstance(fault, EntglError):
                fault.stored = stored
            raise
        return stored

    def delete(self, key: str, *, request: str | None = None) -> Version | None:
        """Delete a document, durably; the version made, or None where there was none.

        ``request`` as for ``put``.
        """
        return self._begin((client_writes.delete(self.name, key),), client_writes.request_id(request))()[0]

    def history(self, key: str) -> History:
        """The versions of a document, newest first, as far as the node's log has them."""
        return client_merging.history(self._database, self.name, key)

    def undelete(self, key: str) -> Version:
        """Write the newest live version of a deleted document again; the version made.

        Raises NotFoundError where this node has none any more, EntglError ``already-exists``.
        """
        return client_merging.undelete(self._database, self.name, key)

    def create_index(self, path: str) -> None:
        """Index a field path (``"address.city"``) on this node."""
        self._database.request(CreateIndex(self.name, path))

    def changes(self, since: str | None = None, *, follow: bool = False) -> Changes | Following:
        """Like ``Database.changes``, of this collection only."""
        return self._database.changes(since, collection=self.name, follow=follow)

    def _begin_part(self, part: client_writes.Part, request: RequestId | None) -> Callable[[], int]:
        answer = self._begin(part.writes, request)
        return lambda: part.was_put(answer())

    def _begin(
        self, writes: tuple[Write, ...], request: RequestId | None
    ) -> Callable[[], list[Version | None]]:
        """Send a commit; the function returned waits until the commit is durable, and returns the versions
        made."""
        answer = self._database.begin(Commit(request or self._database.next_request(), writes))
        return lambda: client_writes.versions(answer())
