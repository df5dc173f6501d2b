"""A part of the change feed: of some collections, of the documents that a filter matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Names
from typing import Any, NamedTuple, Protocol, TypeVar

from entgldb.messages.errors import InvalidError
from entgldb.messages.model import check_collection
from entgldb.storage.documents.feed import Change

E = TypeVar("E")
NOW = "now"
"""The token of what comes from here on."""


class Selection(NamedTuple):
    """The changes that are wanted."""

    collection: str | None
    """The only one, or None: several, or all but those of the system."""
    names: frozenset[str] | None = None
    """Several."""
    filter: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls, collection: str | None, collections: Names[str] | None, filter: Mapping[str, Any] | None
    ) -> Selection:
        """Raises InvalidError for names that are none, and for a collection beside collections."""
        if collections is None:
            return cls(collection, None, filter)
        if collection is not None or isinstance(collections, str):
            raise InvalidError("changes are of one collection or of several", hint="collections=[...] alone")
        names = frozenset(map(check_collection, collections))
        return cls(min(names), None, filter) if len(names) == 1 else cls(None, names, filter)

    @property
    def is_plain(self) -> bool:
        """Whether a feed of one collection, or of all, has these and no others."""
        return self.names is None and not self.filter

    def takes(self) -> Takes:
        """The test of a change. Raises InvalidError, UnsupportedError for the filter."""
        return Takes(self)


class Takes:
    """Whether a change is wanted. A delete is, whatever the filter: of the document nothing is left."""

    def __init__(self, selection: Selection) -> None:
        self._names = selection.names
        self._matches = None
        if selection.filter:
            # most feeds have no filter
            from entgldb.storage.rules.filtering.parser import parse_filter

            self._matches = parse_filter(selection.filter).matches

    def __call__(self, change: Change) -> bool:
        if self._names is not None and change.collection not in self._names:
            return False
        return change.document is None or self.document(change.document)

    def document(self, document: Mapping[str, Any]) -> bool:
        """Whether the filter matches a document."""
        return self._matches is None or self._matches(document)


class Feed(Protocol):
    """A feed that this process reads."""

    @property
    def token(self) -> str: ...

    def __next__(self) -> Change: ...


class Sifted(Iterator[E]):
    """A feed whose changes are told otherwise, or not at all; its ``token`` goes on with each of them."""

    def __init__(self, feed: Feed, sift: Callable[[Change], E | None]) -> None:
        """``sift`` makes what is told of a change, or None."""
        self._feed, self._sift = feed, sift

    @property
    def token(self) -> str:
        """Give it to the same call to go on after all that was read so far, what did not matter included."""
        return self._feed.token

    def __next__(self) -> E:
        while True:
            found = self._sift(next(self._feed))
            if found is not None:
                return found

    def close(self) -> None:
        """Wait no more."""
        close = getattr(self._feed, "close", None)
        if close is not None:
            close()


class Selected(Sifted[Change]):
    """The changes of a feed that are wanted."""

    def __init__(self, feed: Feed, takes: Takes) -> None:
        super().__init__(feed, lambda change: change if takes(change) else None)
