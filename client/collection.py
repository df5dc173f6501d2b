"""``db["users"]``: the documents of one collection, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import conflicts as client_merging
from entgldb.client import writes as client_writes
from entgldb.client.forms import frames
from entgldb.client.forms.found import Reading, Sort
from entgldb.client.spread import ACK_SECONDS, Ack, Made, Who
from entgldb.client.verbs.indexing import Indexing
from entgldb.client.verbs.writing import OnTheSpot, Writing
from entgldb.client.writes import Document
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import Version
from entgldb.storage.documents.feed import Changes

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.client.feed import Following
    from entgldb.client.feeds.live import Live
    from entgldb.client.feeds.selecting import Selected
    from entgldb.client.feeds.watching import Watch
    from entgldb.storage.documents.history import History


class Collection(Reading, Indexing):
    """The documents of one collection."""

    def __init__(self, database: Door, name: str, ack: Ack | None = None) -> None:
        """``ack``: the members that every write waits for; None: no other node."""
        self._database = database
        self.name: Final = name
        self._hands = OnTheSpot(database)
        self._writing = Writing(self._hands, name, ack)

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} of {self._database.directory}>"

    def with_ack(self, ack: Who, timeout: float = ACK_SECONDS) -> Collection:
        """The same collection, whose writes wait until other members have them on their disks, too.

        ``ack``: ``"local"`` (nobody else), ``"peers:N"`` or N (so many other members), ``"all"``, ``"cloud"``
        (a cloud peer), or node ids: ``orders.with_ack("peers:1").insert({...})``. Such a write raises
        SpreadError after ``timeout`` seconds: it is done here and goes on its way, and the error's ``spread``
        says who has it. Do not write again.
        """
        return Collection(self._database, self.name, Ack.of(ack, timeout))

    def get(self, key: str) -> Document | None:
        """One document with the version that was read, or None."""
        found = self._database.documents.read(self.name, key)
        return None if found is None else client_writes.document(self.name, key, found)

    to_pandas = frames.to_pandas
    to_polars = frames.to_polars
    to_arrow = frames.to_arrow

    def get_many(self, keys: Iterable[str]) -> dict[str, Document]:
        """The documents that there are of these keys, by key, in the order of ``keys``."""
        if isinstance(keys, str):
            raise InvalidError(f"the keys are a text, {keys!r:.40}", hint="give a list of keys")
        asked = list(dict.fromkeys(keys))
        found = dict(self._database.documents.read_many(self.name, asked))
        return {key: client_writes.document(self.name, key, found[key]) for key in asked if key in found}

    def insert(
        self,
        document: Mapping[str, Any],
        *,
        key: str | None = None,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Document:
        """Store a document that is not there yet, durably; the document, with its ``key`` and ``version``.

        ``key`` None: a new one, a UUID of version 7 (RFC 9562); such keys sort by time. Raises ExistsError
        where this node has a document of this key: two nodes cut off from each other may both insert one,
        and their documents are then settled like any concurrent writes.

        ``expire_after``, ``request`` and ``ack`` as for ``put``, a request only with a key; ``key`` of a
        NoAnswerError says which one was made.
        """
        return self._hands.do(
            self._writing.acked(ack, ack_timeout).insert(document, key, expire_after, request)
        )

    def insert_many(
        self,
        documents: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]],
        *,
        atomic: bool = False,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> list[str]:
        """Store many documents that are not there yet, in parts or ``atomic`` as ``put_many``; their keys.

        Documents without keys get new ones, as ``insert`` makes them. Raises ExistsError where one is there:
        nothing of its part is stored; ``stored`` counts the documents of the parts before. ``expire_after``
        as for ``put``.
        """
        return self._hands.do(
            self._writing.acked(ack, ack_timeout).insert_many(documents, expire_after, request, atomic=atomic)
        )

    def replace(
        self,
        key: str,
        document: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Made:
        """Store a document whole, over whatever is there, also where the collection merges; as ``put``."""
        whole = client_writes.whole(document)
        return self.put(
            key,
            whole,
            if_version=if_version,
            expire_after=expire_after,
            request=request,
            ack=ack,
            ack_timeout=ack_timeout,
        )

    def put(
        self,
        key: str,
        document: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Made:
        """Store a document, durably; the version made.

        In a collection that merges, a document that ``get`` or ``find`` gave is written as what was changed
        in it since; any other is put whole, over whatever is there.

        ``if_version``: the version that must stand on this node, such as ``document.version``; the node looks
        in the transaction that writes. Raises VersionError where another does, or none.

        ``expire_after``: seconds after which no node shows the document any more, ``math.inf`` for one that
        never expires; None: as ``Database.set_expiry`` says of the collection.

        ``request``: any text of yours that names this write, or ``NoAnswerError.request`` of one that had no
        answer. A write that was done under that name is not done again: the version made then is returned.

        ``ack``: wait until other members have it on their disks, too, for ``ack_timeout`` seconds, as
        ``with_ack`` says; None: as this collection does. ``version.status()`` tells who has it by now.
        """
        return self._hands.do(
            self._writing.acked(ack, ack_timeout).put(key, document, if_version, expire_after, request)
        )

    def merges(self) -> bool:
        """Whether concurrent writes to its documents are merged field by field, as far as the node knows."""
        return self._writing.merges()

    def put_many(
        self,
        documents: client_writes.Many,
        *,
        atomic: bool = False,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> int:
        """Store many documents, each as ``put`` does, each part of up to 500 in one transaction; how many.

        Parts that were stored before an error stay stored; ``stored`` of the EntglError counts them.
        ``atomic``: all in one transaction, of 10,000 documents and 16 MiB at most. ``expire_after`` and
        ``request`` as for ``put``; a request is repeated with the same documents.
        """
        return self._hands.do(
            self._writing.acked(ack, ack_timeout).put_many(documents, expire_after, request, atomic=atomic)
        )

    def delete(
        self,
        key: str,
        *,
        if_version: Version | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Made | None:
        """Delete a document, durably; the version made, or None where there was none.

        ``if_version`` and ``request`` as for ``put``: with a version, a document that is not there raises
        VersionError.
        """
        write = client_writes.delete(self.name, key, client_writes.expected(if_version))
        return self._hands.do(self._writing.acked(ack, ack_timeout).write(write, request))

    def update(
        self,
        key: str,
        operators: Mapping[str, Any],
        *,
        if_version: Version | None = None,
        upsert: bool = False,
        expire_after: float | None = None,
        request: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Made | None:
        """Change a document by operators, durably; the version made, or None where there is no document.

        ``$set $unset $inc $mul $min $max $push $pull $addToSet $rename``, as in MongoDB; field paths with
        dots: ``users.update("u1", {"$inc": {"logins": 1}, "$set": {"address.city": "Bari"}})``. The node
        applies them to the document that stands in the transaction that writes, so that concurrent updates by
        programs of this node all count. In a collection that merges those of other nodes do, too: ``$inc``
        adds to a counter, ``$addToSet`` and ``$pull`` change a set, the others write fields.

        An update that changes nothing gives the version that stands. ``upsert`` begins with an empty document
        where there is none. ``if_version`` and ``request`` as for ``put``. ``expire_after`` too: the document
        lives so long from here on, whether it is changed or not; None: as long as it has to live already.
        Raises UnsupportedError for an operator that is not there, InvalidError for one that does not fit the
        document.
        """
        expects, life_ms = client_writes.expected(if_version), client_writes.life(expire_after)
        write = client_writes.update(self.name, key, operators, expects, upsert=upsert, life_ms=life_ms)
        return self._hands.do(self._writing.acked(ack, ack_timeout).write(write, request))

    def find_and_update(
        self,
        filter: Mapping[str, Any],
        operators: Mapping[str, Any],
        *,
        sort: str | Sequence[str] | None = None,
        returns: str = "after",
        collation: str | None = None,
        expire_after: float | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> Document | None:
        """Change the first document that matches, durably; how it is ``"after"``, or was ``"before"``.

        None where no document matches. The node changes it only as the version that was found to match: where
        another write of this node comes first, the next document is looked for. So many workers may do
        ``jobs.find_and_update({"state": "new"}, {"$set": {"state": "taken"}}, sort="since")``, and each gets
        jobs of its own; nodes that are cut off from each other may take the same. Where documents merge,
        ``"after"`` is the document as this node has it then.

        ``sort`` and ``collation`` as for ``find``, operators and ``expire_after`` as for ``update``.
        """
        from entgldb.client.verbs.claiming import Claiming

        claiming = Claiming(
            self._hands,
            self._writing.acked(ack, ack_timeout),
            self.name,
            filter,
            sort=sort,
            collation=collation,
        )
        return self._hands.do(claiming.update(operators, returns, expire_after))

    def update_many(
        self,
        filter: Mapping[str, Any],
        operators: Mapping[str, Any],
        *,
        collation: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> int:
        """Change all documents that match by operators, durably; how many were found.

        The keys are looked up once; then each part of up to 500 is one transaction, in which the node looks
        again whether a document matches. So a document that somebody else changed meanwhile is updated only
        if it still matches; one that begins to match later is not found. It is not atomic as a whole: parts
        before an error stay, and ``stored`` of the EntglError counts their documents.
        """
        return self._hands.do(self._writing.acked(ack, ack_timeout).change_many(filter, collation, operators))

    def delete_many(
        self,
        filter: Mapping[str, Any],
        *,
        collation: str | None = None,
        ack: Who | None = None,
        ack_timeout: float = ACK_SECONDS,
    ) -> int:
        """Delete all documents that match, durably, in parts as ``update_many``; how many. ``{}``: all."""
        return self._hands.do(self._writing.acked(ack, ack_timeout).change_many(filter, collation, None))

    def history(self, key: str) -> History:
        """The versions of a document, newest first, as far as the node's log has them."""
        return client_merging.history(self._database, self.name, key)

    def undelete(self, key: str) -> Version:
        """Write the newest live version of a deleted document again; the version made.

        Raises NotFoundError where this node has none any more, EntglError ``already-exists``.
        """
        return client_merging.undelete(self._database, self.name, key)

    def changes(
        self, since: str | None = None, *, filter: Mapping[str, Any] | None = None, follow: bool = False
    ) -> Changes | Following | Selected:
        """Like ``Database.changes``, of this collection only."""
        return self._database.changes(since, collection=self.name, filter=filter, follow=follow)

    def watch(self, filter: Mapping[str, Any] | None = None, *, since: str | None = None) -> Watch:
        """Documents that enter a filter, change within it and leave it, for ever; with a ``token``.

        Without ``since`` it begins with all that match, as ``enter``; with ``"now"`` it tells what comes from
        here on, with a token what comes behind that. Each event comes at least once, with the document as it
        is then. After a token it is not known what matched before: ``enter`` and ``leave`` may tell what was
        so already.

        Raises TokenExpired as ``Database.changes``.
        """
        from entgldb.client.feeds.watching import Watch, begin

        token, watched = begin(self, self._database.token, filter, since)
        feed = self._database.changes(token, collection=self.name, follow=True)
        return Watch(feed, watched)

    def live(
        self, filter: Mapping[str, Any] | None = None, *, sort: Sort = None, limit: int | None = None
    ) -> Live:
        """The result of ``find`` as a list, and again whenever that has changed, for ever.

        The query runs again only where a document of the result, or one that matches, was written. A result
        may have 10,000 documents: beyond it InvalidError is raised.
        """
        from entgldb.client.feeds.live import LiveQuery

        database = self._database
        asked = self.name, self.find, filter, sort, limit
        return database.live(LiveQuery.of(lambda: database.documents, *asked))
