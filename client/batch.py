"""``db.batch()``: writes to several collections as one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from entgldb.client import writes as client_writes
from entgldb.client.spread import Made
from entgldb.client.upkeep.tracing import commit
from entgldb.client.writes import Document
from entgldb.messages.client import ABSENT, Write, Written
from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import Version

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.client.spread import Ack


class Gathering:
    """Writes of a batch, gathered until the block ends: ``batch["users"].put("u1", {...})``."""

    def __init__(self, request: str | None = None) -> None:
        self.versions: list[Made | None] = []
        """After the block: the version that each write made, in their order; None where a delete or an update
        met no document."""
        self._named = client_writes.request_id(request)
        self._request = request
        self._writes: list[Write] = []
        self._documents: list[Document | None] = []
        self._bytes = 0
        self._begun = self._open = False

    def __getitem__(self, name: str) -> Batched:
        return Batched(self, name)

    def add(self, write: Write, document: Any = None) -> None:
        """One more write. Raises InvalidError outside of the block, TooLargeError."""
        if not self._open:
            raise InvalidError("this batch is not open", hint="with db.batch() as batch: ...")
        self._bytes += len(write.body or write.update or b"")
        if len(self._writes) == GROUP_ENTRIES_MAX or self._bytes > GROUP_BYTES_MAX:
            raise TooLargeError(
                f"a batch has at most {GROUP_ENTRIES_MAX} writes and {GROUP_BYTES_MAX} bytes",
                hint="make several batches",
            )
        self._writes.append(write)
        self._documents.append(document if isinstance(document, Document) else None)

    def refuse_unnamed(self, *, keyed: bool) -> None:
        """Raise InvalidError where a batch with a request id inserts under a new key."""
        client_writes.refuse_unnamed(self._request, keyed=keyed)

    def _begin(self) -> None:
        if self._begun:
            raise InvalidError("a batch is for one block", hint="make another one")
        self._begun = self._open = True

    def _end(self, *, well: bool) -> tuple[Write, ...]:
        """The writes to be sent: none where the block was left by an error."""
        self._open = False
        return tuple(self._writes) if well else ()

    def made(self) -> list[Made]:
        """The versions that were made."""
        return [version for version in self.versions if version is not None]

    def _was_done(self, versions: list[Version | None], ask: Callable[[Version], Any]) -> None:
        self.versions = [None if version is None else Made.of(version, ask) for version in versions]
        for document, write, version in zip(self._documents, self._writes, self.versions, strict=True):
            if document is not None and version is not None:
                document.was_put(write, version)


class Batched:
    """The writes of a batch to one collection; nothing is done before the block ends."""

    def __init__(self, batch: Gathering, name: str) -> None:
        self._batch = batch
        self.name = name

    def put(self, key: str, document: Mapping[str, Any], *, if_version: Version | None = None) -> None:
        """Store a document, as ``Collection.put``."""
        self._put(key, document, client_writes.expected(if_version))

    def replace(self, key: str, document: Mapping[str, Any], *, if_version: Version | None = None) -> None:
        """Store a document whole, as ``Collection.replace``."""
        self._put(key, client_writes.whole(document), client_writes.expected(if_version))

    def insert(self, document: Mapping[str, Any], *, key: str | None = None) -> str:
        """Store a document that is not there yet, as ``Collection.insert``; its key."""
        self._batch.refuse_unnamed(keyed=key is not None)
        key = client_writes.new_key() if key is None else key
        self._put(key, client_writes.whole(document), ABSENT)
        return key

    def update(
        self,
        key: str,
        operators: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        upsert: bool = False,
        expire_after: float | None = None,
    ) -> None:
        """Change a document by operators, as ``Collection.update``."""
        expects, life_ms = client_writes.expected(if_version), client_writes.life(expire_after)
        write = client_writes.update(self.name, key, operators, expects, upsert=upsert, life_ms=life_ms)
        self._batch.add(write)

    def delete(self, key: str, *, if_version: Version | None = None) -> None:
        """Delete a document, as ``Collection.delete``."""
        self._batch.add(client_writes.delete(self.name, key, client_writes.expected(if_version)))

    def _put(self, key: str, document: Mapping[str, Any], expects: Written | None) -> None:
        # the document as it was read goes along, whatever the rule: the node uses it where documents merge
        self._batch.add(client_writes.put(self.name, key, document, lambda: True, expects), document)


class Batch(Gathering):
    """A batch of the blocking API."""

    def __init__(self, database: Door, request: str | None, ack: Ack | None = None) -> None:
        super().__init__(request)
        self._database = database
        self._ack = ack

    def __enter__(self) -> Batch:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        writes = self._end(well=kind is None)
        if writes:
            request = self._named or self._database.next_request()
            made = client_writes.versions(self._database.begin(commit(request, writes))(), writes)
            self._was_done(made, self._database.spread)
            if self._ack is not None:
                self._database.await_spread(self._ack.need, self.made(), self._ack.seconds)
