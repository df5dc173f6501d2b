"""``db["users"]``: the documents of one collection, read and written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import conflicts as client_merging
from entgldb.client import writes as client_writes
from entgldb.client.writes import Document
from entgldb.messages.client import Commit, CreateIndex, RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Version
from entgldb.storage.documents.query import Changes

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.client.feed import Following
    from entgldb.storage.documents.history import History


class Collection:
    """The documents of one collection."""

    def __init__(self, database: Door, name: str) -> None:
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
