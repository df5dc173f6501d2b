"""A query whose result is given again whenever it has changed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from entgldb.client.feed import CommitFeed
from entgldb.messages.errors import InvalidError, TokenExpired

if TYPE_CHECKING:
    from entgldb.client.transport import News
    from entgldb.client.writes import Document
    from entgldb.storage.documents.query import Documents

LIVE_DOCUMENTS_MAX: Final = 10_000
"""Documents of the result of a live query."""


class LiveQuery:
    """The query, its last result, and the place in the change feed up to which that is true."""

    def __init__(
        self,
        documents: Callable[[], Documents],
        collection: str,
        find: Callable[[], list[Document]],
        matches: Callable[[Any], bool],
    ) -> None:
        self._documents, self._collection = documents, collection
        self._find, self._matches = find, matches
        self._token: str | None = None
        self._versions: list[tuple[str, Any]] | None = None
        """Keys and versions of the last result, in order."""

    @classmethod
    def of(
        cls,
        file: Callable[[], Documents],
        collection: str,
        find: Callable[..., Iterator[Document]],
        filter: Mapping[str, Any] | None,
        sort: str | Sequence[str] | None,
        limit: int | None,
    ) -> LiveQuery:
        """A ``find`` of a collection with these options. Raises as it."""
        from entgldb.storage.rules.filtering.parser import parse_filter

        most = LIVE_DOCUMENTS_MAX + 1 if limit is None else limit
        found = partial(find, filter, sort=sort, limit=most)
        return cls(file, collection, lambda: list(found()), parse_filter(filter).matches)

    def step(self) -> list[Document] | None:
        """The result, if it has changed since the last step; the query runs only if it can have.

        Raises InvalidError for a result that is too large.
        """
        if not self._is_touched():
            return None
        found = self._find()
        if len(found) > LIVE_DOCUMENTS_MAX:
            raise InvalidError(
                f"a live query of more than {LIVE_DOCUMENTS_MAX} documents",
                hint="give it a filter, or limit=",
            )
        before, self._versions = self._versions, [(one.key, one.version) for one in found]
        return None if self._versions == before else found

    def _is_touched(self) -> bool:
        """Whether what came touches the result, or a document that matches. It is read before the query."""
        documents = self._documents()
        if self._token is not None:
            try:
                reading = documents.changes(self._token, collection=self._collection)
                known = {key for key, _ in self._versions or ()}
                touched = False
                for change in reading:
                    touched = touched or change.key in known
                    touched = touched or (change.document is not None and self._matches(change.document))
            except TokenExpired:
                pass  # another file, or deletes of which nothing is left: the query tells what is there now
            else:
                self._token = reading.token
                return touched
        self._token = documents.token()
        return True


class Live(Iterator["list[Document]"]):
    """The iterator that ``live`` returns: the result, and each other one that comes of it, for ever."""

    def __init__(
        self, follow: Callable[[], News], documents: Callable[[], Documents], query: LiveQuery
    ) -> None:
        self._told = _tell(follow, documents, query)

    def __next__(self) -> list[Document]:
        return next(self._told)

    def close(self) -> None:
        """Wait no more."""
        self._told.close()


def _tell(
    follow: Callable[[], News], documents: Callable[[], Documents], query: LiveQuery
) -> Generator[list[Document], None, None]:
    while True:
        file = documents()
        # begun before reading: every commit from here on is announced
        with CommitFeed(follow, file) as feed:
            while not file.replaced():
                found = query.step()
                if found is not None:
                    yield found
                feed.wait()
