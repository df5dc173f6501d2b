"""Reading by filters: what ``find`` gives, and the methods of a collection that ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from entgldb.client.writes import Document, Excerpt, document
from entgldb.messages.schema import Json
from entgldb.storage.documents.reading import Read, parsed

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.storage.documents.explaining import Plan

SLOW_SECONDS: Final = 0.5
"""A query that takes as long until its first documents is noted in ``log/slow-queries.log``."""
Sort = str | Sequence[str] | None
"""``"age"``, ``"-age"`` for descending, or several; ties go by key."""


class Place(NamedTuple):
    """Where a reader of an order stands."""

    sort: Sort
    collation: str | None
    after: str | None

    def cursor(self, last: Document | None) -> str | None:
        """The cursor after the last document that was read; the one to begin with, where none was."""
        # few readers go on later: those alone load the module
        from entgldb.storage.rules.filtering.cursor import make_cursor, names

        read = None if last is None else last.read_from(last.collection, last.key)
        if last is None or read is None:
            return self.after
        return make_cursor(names(self.sort), self.collation, last.key, parsed(read.text))


class Found(Iterator[Document]):
    """The documents that match, one after another; it reads page by page."""

    def __init__(self, found: Iterator[Document], place: Place) -> None:
        self._place = place
        self._last: Document | None = None
        self._given = self._give(found)

    def __iter__(self) -> Iterator[Document]:
        # who reads them all asks the generator itself
        return self._given

    def __next__(self) -> Document:
        return next(self._given)

    def _give(self, found: Iterator[Document]) -> Iterator[Document]:
        for one in found:
            self._last = one
            yield one

    @property
    def cursor(self) -> str | None:
        """Give it to ``find`` as ``after`` to go on behind the document that came last."""
        return self._place.cursor(self._last)


class Reading:
    """The methods of a collection that ask for documents."""

    _database: Door
    name: str

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        skip: int = 0,
        after: str | None = None,
        fields: str | Iterable[str] | None = None,
        collation: str | None = None,
        highlight: tuple[str, str] | None = None,
    ) -> Found:
        """The documents that match, in the order of ``sort`` (``"age"``, ``"-age"``), then by key.

        Filters and orders are described in docs/queries.md; an operator that there is not raises
        UnsupportedError. ``after``: the ``cursor`` of an earlier find in the same order, to go on there,
        whatever was written meanwhile. ``fields``: paths; each document then has these alone, and cannot
        be put. ``collation="nocase"``: texts are compared without regard to case.

        ``{"$text": "apple tree*"}`` finds words by an index of words, the best documents first where there is
        no ``sort``. ``highlight``: two marks, such as ``("[", "]")``; the ``snippet`` of each document then
        shows the words between them, and ``limit`` is at most 500.
        """
        begun = perf_counter()
        found = self._database.documents.read_all(
            self.name,
            filter,
            sort=sort,
            limit=limit,
            skip=skip,
            after=after,
            collation=collation,
            highlight=highlight,
        )
        self._took("find", perf_counter() - begun, filter, sort, collation)
        if fields is None:
            whole = (document(self.name, key, read) for key, read in found)
            return Found(whole, Place(sort, collation, after))
        return Found(_excerpts(self.name, found, fields), Place(sort, collation, after))

    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        fields: str | Iterable[str] | None = None,
        collation: str | None = None,
    ) -> Document | None:
        """The first document that ``find`` would give, or None."""
        return next(self.find(filter, sort=sort, limit=1, fields=fields, collation=collation), None)

    def count(self, filter: Mapping[str, Any] | None = None, *, collation: str | None = None) -> int:
        """How many documents match."""
        begun = perf_counter()
        found = self._database.documents.count(self.name, filter, collation=collation)
        self._took("count", perf_counter() - begun, filter, None, collation)
        return found

    def distinct(
        self, path: str, filter: Mapping[str, Any] | None = None, *, collation: str | None = None
    ) -> list[Json]:
        """The different values at a path of the documents that match, in order; of an array, its elements.

        ``collation`` is that of the filter. Raises TooLargeError for more than DISTINCT_MAX = 10000.
        """
        begun = perf_counter()
        found = self._database.documents.distinct(self.name, path, filter, collation=collation)
        self._took("distinct", perf_counter() - begun, filter, None, collation)
        return found

    def aggregate(
        self, pipeline: Sequence[Mapping[str, Any]], *, collation: str | None = None
    ) -> list[dict[str, Json]]:
        """The result of stages ``$match``, ``$group``, ``$sort`` and ``$limit``, as docs/queries.md has them.

        Raises UnsupportedError for another stage, TooLargeError where a limit is crossed.
        """
        return self._database.documents.aggregate(self.name, pipeline, collation=collation)

    def explain(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        collation: str | None = None,
    ) -> Plan:
        """How ``find`` answers this on this node, having done it: ``print(users.explain({...}))``."""
        return self._database.documents.explain(self.name, filter, sort=sort, collation=collation)

    def _took(
        self,
        verb: str,
        seconds: float,
        filter: Mapping[str, Any] | None,
        sort: Sort,
        collation: str | None,
    ) -> None:
        """Note a query that took long."""
        if seconds >= SLOW_SECONDS:
            from entgldb.client.upkeep.slow import note

            documents = self._database.documents
            note(self._database.directory, documents, verb, self.name, filter, sort, collation, seconds)


def _excerpts(
    collection: str, found: Iterator[tuple[str, Read]], fields: str | Iterable[str]
) -> Iterator[Document]:
    """Documents with some of their fields; a bad path is refused at the call."""
    from entgldb.storage.rules.filtering.projection import parse_fields, project

    wanted = parse_fields(fields)
    return (
        Excerpt(key, project(parsed(read.text), wanted), collection=collection, read=read)
        for key, read in found
    )
