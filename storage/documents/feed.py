"""The change feed: documents and deletes in the order in which this node took them in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, TokenExpired
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Version, check_text
from entgldb.storage.documents.reading import Document, parsed
from entgldb.storage.rules.clock import ms_of

_Rows = list[tuple[Any, ...]]
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of bodies that a change feed reads in one go, not counting the last one."""
_CHANGED: Final = (
    "SELECT d.lsn, d.collection, d.key, d.body, o.name, d.seq, d.hlc"
    " FROM _entgldb_documents d INDEXED BY _entgldb_feed CROSS JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.lsn > ? ORDER BY d.lsn LIMIT ?"
)


class Change(NamedTuple):
    """A key's present version, in the order this node took it in; ``document`` is None for a delete."""

    token: str
    """Give it to ``changes`` to go on after this change."""
    collection: str
    key: str
    document: Document | None
    version: Version
    at_ms: int
    """Wall clock of the writer."""


class Changes(Iterator[Change]):
    """The iterator that ``Documents.changes`` returns; it reads page by page."""

    def __init__(self, feed: Feed, lsn: int, collection: str | None) -> None:
        self._feed = feed
        self._collection = collection
        self._lsn = lsn
        self._seen = lsn
        # of a token it was checked against this very number, and more may have been collected since
        self._collected = lsn or feed.collected_lsn()
        self._page: list[tuple[Any, ...]] = []
        """The last row first."""
        self._whole = False

    @property
    def token(self) -> str:
        """Give it to ``changes`` to go on after all that was read so far, what did not match included."""
        return self._feed.token_of(self._lsn)

    def __next__(self) -> Change:
        while True:
            while self._page:
                self._lsn, name, key, body, origin, seq, hlc = self._page.pop()
                if name == self._collection or (
                    self._collection is None and not name.startswith(SYSTEM_PREFIX)
                ):
                    document = None if body is None else parsed(body)
                    return Change(self.token, name, key, document, Version(origin, seq), ms_of(hlc))
            # a row that is changed meanwhile moves to the end: the rows behind ``seen`` by then were read
            self._lsn = max(self._lsn, self._seen) if self._whole else self._lsn
            if self._whole:
                raise StopIteration
            self._read()

    def _read(self) -> None:
        """The next page. Raises TokenExpired where a delete behind it may have been forgotten meanwhile."""
        self._seen = self._feed.last_lsn()
        rows, more = self._feed.changed(self._lsn)
        self._page, self._whole = rows[::-1], not more
        if self._feed.collected_lsn() > max(self._collected, self._lsn):
            raise too_late()


class Feed:
    """Of one file, with the tokens that name a place in it."""

    def __init__(self, put_to: Callable[[Callable[[sqlite3.Connection], Any]], Any]) -> None:
        """``put_to`` has a question answered by the file."""
        self._put_to = put_to
        self.file_id = self._file_id()
        """Tells this file's change tokens from all others."""

    def token(self) -> str:
        """The token after everything that is here now."""
        return self.token_of(self.last_lsn())

    def last_lsn(self) -> int:
        """The number of the newest log row, or of a visible change that has none."""
        return int(self._one("SELECT lsn FROM _entgldb_last"))

    def after(self, token: str | None, collection: str | None) -> Changes:
        """The changes since. Raises InvalidError, TokenExpired."""
        return Changes(self, self._lsn(token), collection)

    def changed(self, lsn: int) -> tuple[_Rows, bool]:
        """The next documents and tombstones that were changed after ``lsn``, in that order; whether there
        are more."""
        page: tuple[_Rows, bool] = self._put_to(
            lambda connection: _page(connection.execute(_CHANGED, (lsn, PAGE_ROWS_MAX)))
        )
        return page

    def collected_lsn(self) -> int:
        """Highest lsn of a tombstone that was collected."""
        return int(self._one("SELECT collected_lsn FROM _entgldb_state"))

    def token_of(self, lsn: int) -> str:
        """The token after ``lsn``."""
        return f"{self.file_id}.{lsn}"

    def _lsn(self, token: str | None) -> int:
        if token is None:
            return 0
        file_id, _, number = check_text(token, "a change token").partition(".")
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            raise InvalidError(f"{token!r:.80} is not a change token", hint="use one that `changes` gave")
        # the file may have been found to have gone back while it is open here
        self.file_id = self._file_id()
        if file_id != self.file_id or int(number) > self.last_lsn():
            raise TokenExpired(
                "the change token belongs to another database file",
                hint="start over with since=None: every document comes once more",
            )
        if 0 < int(number) < self.collected_lsn():
            raise too_late()
        return int(number)

    def _file_id(self) -> str:
        return str(self._one("SELECT value FROM _entgldb_meta WHERE name = 'file_id'"))

    def _one(self, sql: str) -> Any:
        return self._put_to(lambda connection: connection.execute(sql).fetchone())[0]


def too_late() -> TokenExpired:
    """The error of a change feed that cannot know which deletes it has missed."""
    return TokenExpired(
        "deletes after this change token have been forgotten",
        hint="start over with since=None: every document comes once more",
    )


def _page(cursor: sqlite3.Cursor) -> tuple[_Rows, bool]:
    """Rows of _CHANGED, no more than fit into a page; whether there are more."""
    rows: _Rows = []
    size = 0
    for row in cursor:
        rows.append(row)
        size += len(row[3] or "")
        if size >= _PAGE_BYTES or len(rows) == PAGE_ROWS_MAX:
            cursor.close()
            return rows, True
    return rows, False
