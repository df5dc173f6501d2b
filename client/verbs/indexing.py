"""Indexes of a collection: made, listed, dropped; the part of the API that both APIs share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from entgldb.client.verbs.writing import Hands, asked
from entgldb.messages.client import CreateIndex, DropIndex, RebuildIndex, RequestId

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.storage.indexes.listing import IndexInfo
    from entgldb.storage.indexes.unique import Shared


def creation(
    collection: str,
    paths: str | Sequence[str],
    where: Mapping[str, Any] | None,
    name: str | None,
    request: RequestId | None,
    **kind: bool,
) -> CreateIndex:
    """The request for an index, with its name. Raises InvalidError or UnsupportedError for what cannot be."""
    # whoever makes no index need not load how filters are read
    from entgldb.storage.rules.filtering.cursor import names
    from entgldb.storage.rules.indexing.definition import define

    named = names(paths)
    definition = define(collection, named, where=where, name=name or "", **kind)
    condition = None if where is None else json.dumps(where).encode()
    return CreateIndex(
        collection, named, definition.name, definition.unique, condition, definition.text, request
    )


async def created(hands: Hands, message: CreateIndex) -> str:
    """Have an index made; its name."""
    await asked(hands, message)
    return message.name


class Indexing:
    """The indexes of one collection."""

    _database: Door
    _hands: Hands
    name: str

    def create_index(
        self,
        paths: str | Sequence[str],
        *,
        unique: bool = False,
        where: Mapping[str, Any] | None = None,
        text: bool = False,
        everywhere: bool = False,
        name: str | None = None,
    ) -> str:
        """Index a field path (``"address.city"``), or several in their order; the name of the index.

        Values fall with ``-`` before a path. Elements of arrays are indexed each for itself. The node builds
        the index in steps, and queries use it from then on: ``indexes`` tells how far that is.

        ``unique``: a write on this node that repeats another document's values is refused by ExistsError, if
        no field is null, missing or an object. Other nodes do not know it meanwhile: what comes from them is
        applied, and ``shared_values`` lists what then stands twice. ``where``: a filter; only documents that
        match it are in the index, and it serves only queries that say the same. ``text``: index the words of
        the fields for ``$text``, one such index a collection. ``everywhere``: on every node of the cluster.

        An index that is there already is left as it is. Raises ExistsError for another one of that name,
        TooLargeError beyond 16 indexes of a collection or 64 of a node, InvalidError, and UnsupportedError
        where ``text`` is wanted and SQLite has no FTS5.
        """
        request = self._hands.file.next_request() if everywhere else None
        message = creation(self.name, paths, where, name, request, unique=unique, text=text)
        return self._hands.do(created(self._hands, message))

    def drop_index(self, name: str) -> None:
        """Drop an index by its name; one made ``everywhere`` is dropped everywhere. Raises NotFoundError."""
        return self._hands.do(asked(self._hands, DropIndex(self._hands.file.next_request(), self.name, name)))

    def rebuild_index(self, name: str) -> None:
        """Have this node build an index again from nothing. Raises NotFoundError."""
        return self._hands.do(asked(self._hands, RebuildIndex(self.name, name)))

    def indexes(self) -> list[IndexInfo]:
        """The indexes that this node has of the collection, by name."""
        from entgldb.storage.indexes.listing import indexes

        return self._database.documents.put_to(lambda connection: indexes(connection, self.name))

    def shared_values(self, name: str) -> list[Shared]:
        """The values of a unique index that several documents have, 1,000 at most. Raises NotFoundError."""
        from entgldb.storage.indexes.listing import shared_values

        return self._database.documents.put_to(lambda connection: shared_values(connection, self.name, name))
