"""Changes as they come: read after the node's push on a socket of its own, or when the file has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final

from entgldb.messages.errors import EntglError
from entgldb.storage.documents.feed import Change
from entgldb.storage.documents.query import Documents

if TYPE_CHECKING:
    from entgldb.client.transport import News

POLL_SECONDS: Final = 0.05
"""Between two looks at PRAGMA data_version while no node pushes."""
REDIAL_SECONDS: Final = 1.0
"""Between two attempts to get the push back."""
SILENT_SECONDS: Final = 2.0
"""The push is trusted that long; then the file is looked at, in case one was lost."""


class CommitFeed:
    """Tells when something new may be read. It works without a node, only less promptly."""

    def __init__(self, follow: Callable[[], News], documents: Documents) -> None:
        self._follow = follow
        self._documents = documents
        self._news: News | None = None
        self._redial_at = 0.0

    def __enter__(self) -> CommitFeed:
        self._seen = self._documents.data_version()
        self._dial()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()

    def wait(self) -> None:
        """Return as soon as something may have been committed since the last return."""
        while True:
            seen = self._documents.data_version()
            if seen != self._seen or self._documents.replaced():
                self._seen = seen
                return
            if self._news is None and time.monotonic() >= self._redial_at:
                self._dial()
            if self._news is None:
                time.sleep(POLL_SECONDS)
                continue
            try:
                self._news.wait_pushed(SILENT_SECONDS)
            except EntglError:
                self._hang_up()

    def _dial(self) -> None:
        self._redial_at = time.monotonic() + REDIAL_SECONDS
        try:
            self._news = self._follow()
        except EntglError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._news is not None:
            self._news.close()
        self._news = None


class Following(Iterator[Change]):
    """The iterator that ``changes(follow=True)`` returns: it waits for more for ever."""

    def __init__(
        self,
        follow: Callable[[], News],
        documents: Callable[[], Documents],
        since: str | None,
        collection: str | None,
    ) -> None:
        self._reading = documents().changes(since, collection=collection)
        self._told = self._tell(follow, documents, collection)

    @property
    def token(self) -> str:
        """Give it to ``changes`` to go on after all that was read so far, what did not match included."""
        return self._reading.token

    def __next__(self) -> Change:
        return next(self._told)

    def close(self) -> None:
        """Wait no more."""
        self._told.close()

    def _tell(
        self, follow: Callable[[], News], documents: Callable[[], Documents], collection: str | None
    ) -> Generator[Change, None, None]:
        # begun before reading: every commit from here on is announced, so nothing is slept through
        with CommitFeed(follow, documents()) as feed:
            while True:
                yield from self._reading
                feed.wait()
                # of another file by now, perhaps: then the token has expired
                self._reading = documents().changes(self._reading.token, collection=collection)
