"""Documents for clients: read-only, in the client's own process, without asking any actor."""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import (
    COLLECTIONS,
    REMOTE_PEERS,
    SYSTEM_PREFIX,
    Origin,
    Version,
    check_collection,
    check_key,
)
from entgldb.messages.schema import Json
from entgldb.storage.documents.conflicts import CONFLICT_ROWS, Conflict, conflict
from entgldb.storage.documents.feed import Changes, Feed
from entgldb.storage.documents.reading import Document, Marked, Read, parsed
from entgldb.storage.file.faults import FAULTS, translated
from entgldb.storage.file.open import FILE, open_reader

if TYPE_CHECKING:
    from entgldb.messages.remote_peers import RemotePeer
    from entgldb.storage.documents.explaining import Plan
    from entgldb.storage.documents.finding import Finder
    from entgldb.storage.documents.history import History

_Rows = list[tuple[Any, ...]]
_T = TypeVar("_T")
_READ: Final = "body, origin, seq, stamps"
_ONE: Final = (
    f"SELECT {_READ} FROM _entgldb_documents"  # noqa: S608 -- constants
    " WHERE collection = ? AND key = ? AND body IS NOT NULL"
)
_MANY: Final = (
    f"SELECT key, {_READ} FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL AND key IN"  # noqa: S608 -- constant
)
_made: Final = tuple.__new__
"""As Read(...) and Version(...), which would take a third of the time that a read takes."""
READING_FAILED: Final = "reading failed"

_MAPPED_BYTES: Final = 256 * 1024 * 1024
"""Of the file that a reader maps into its memory instead of copying it page by page."""


class _Refusing:
    """In the place of a connection that may not be used here."""

    def __init__(self, why: Callable[[], EntglError]) -> None:
        self._why = why

    def __getattr__(self, name: str) -> NoReturn:
        raise self._why()


class Documents:
    """A node's file as documents. Every call is one short read; safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, file: Path | None = None, inode: int = 0) -> None:
        self._connection = connection
        self._file, self._inode = None if file is None else str(file), inode
        self._lock = threading.RLock()
        self._checked = ""
        """The collection that was read last."""
        self._names: dict[int, Origin] = {}
        """Of writers, by the numbers that the file gives them."""
        self._searching: Documents | None = None
        """The same file by another connection, for what may take long."""
        self.feed: Final = Feed(self.put_to)

    @classmethod
    def open(cls, directory: str | Path, *, held: bool = False) -> Documents:
        """``held``: by whoever reads, so that nobody puts another file in the place of this one.

        Raises NotFoundError where there is no database, ConfigError for a newer format.
        """
        file = Path(directory) / FILE
        inode = _inode(str(file))
        connection = open_reader(directory)
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        return cls(connection) if held else cls(connection, file, inode)

    def replaced(self) -> bool:
        """Whether another file stands in the place of this one: a restore, or a database begun anew."""
        return self._file is not None and _inode(self._file) not in (0, self._inode)

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            if self._searching is not None:
                self._searching.close()

    def abandon(self, why: Callable[[], EntglError]) -> None:
        """Raise what ``why`` makes from now on, and leave the file as it is: in a process that was forked."""
        self._left, self._connection = self._connection, _Refusing(why)  # type: ignore[assignment]  # it stands for one
        self._lock = threading.RLock()
        if self._searching is not None:
            self._searching.abandon(why)

    def get(self, collection: str, key: str) -> Document | None:
        """One document, or None. Raises InvalidError for what cannot be a key."""
        found = self.read(collection, key)
        return None if found is None else parsed(found.text)

    def read(self, collection: str, key: str) -> Read | None:
        """One document as its text with its version, or None. Raises InvalidError."""
        if collection != self._checked:
            self._checked = check_collection(collection, system=True)
        values = (collection, check_key(key))
        try:
            # as put_to, in half the time
            with self._lock:
                row = self._connection.execute(_ONE, values).fetchone()
        except FAULTS as fault:
            raise translated(fault, READING_FAILED) from fault
        if row is None:
            return None
        text, number, seq, stamps = row
        version = _made(Version, (self._names.get(number) or self._named({number})[number], seq))
        return _made(Read, (text, version, stamps))

    def read_many(self, collection: str, keys: Iterable[str]) -> Iterator[tuple[str, Read]]:
        """The documents that there are of these keys, each with its key. Raises InvalidError."""
        check_collection(collection, system=True)
        left = map(check_key, keys)
        while page := list(islice(left, PAGE_ROWS_MAX)):
            sql = f"{_MANY} ({','.join('?' * len(page))})"
            rows = self._all(sql, (collection, *page))
            yield from self._reads(rows)

    def keys(
        self, collection: str, filter: Mapping[str, Any] | None = None, *, collation: str | None = None
    ) -> Iterator[list[str]]:
        """The keys of the documents that match, page by page; raises as ``read_all``."""
        pages = self.finder.pages("1", collection, filter, collation=collation)
        return ([key for key, _ in page] for page in pages)

    def find(
        self, collection: str, filter: Mapping[str, Any] | None = None, **how: Any
    ) -> Iterator[tuple[str, Document]]:
        """Keys and documents that match, as ``read_all`` finds them; ``how`` is what it takes."""
        found = self.read_all(collection, filter, **how)
        return ((key, parsed(read.text)) for key, read in found)

    def read_all(
        self,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
        after: str | None = None,
        collation: str | None = None,
        highlight: tuple[str, str] | None = None,
    ) -> Iterator[tuple[str, Read]]:
        """Keys and documents that match, by ``sort`` (``age``, ``-age``, or several), then by key.

        ``after``: a cursor of ``make_cursor`` in the same order; only those behind it.

        ``highlight``: marks around words that ``$text`` asks for; each Read is a Marked then, with a snippet.

        Raises UnsupportedError or InvalidError at the call. Long results are read page by page: a
        document that is changed meanwhile appears as it is then, if it still matches.
        """
        pages = self.finder.pages(
            _READ,
            collection,
            filter,
            sort=sort,
            limit=limit,
            skip=skip,
            after=after,
            collation=collation,
            marks=highlight,
        )
        if highlight is not None:
            return (one for page in pages for one in self._marked(page))
        return (one for page in pages for one in self._reads(page))

    def count(
        self, collection: str, filter: Mapping[str, Any] | None = None, *, collation: str | None = None
    ) -> int:
        """How many documents match."""
        return self.finder.count(collection, filter, collation)

    def distinct(
        self,
        collection: str,
        path: str,
        filter: Mapping[str, Any] | None = None,
        *,
        collation: str | None = None,
    ) -> list[Json]:
        """The different values at a path of those that match, those of arrays one by one, in order."""
        return self.finder.distinct(collection, path, filter, collation)

    def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], *, collation: str | None = None
    ) -> list[dict[str, Json]]:
        """The documents that the last stage of a pipeline gives. Raises as ``parse_pipeline``."""
        from entgldb.storage.rules.filtering.aggregate import parse_pipeline

        parts = parse_pipeline(pipeline, collation)
        found = self.find(collection, parts.filter, sort=parts.sort, limit=parts.limit, collation=collation)
        return parts.run(document for _, document in found)

    def explain(
        self,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        collation: str | None = None,
    ) -> Plan:
        """How a query is answered; it is carried out for that."""
        from entgldb.storage.documents.explaining import explain

        return explain(self.finder, collection, filter, sort, collation)

    def collections(self, *, system: bool = False) -> list[str]:
        """Names of collections that ever had a document here."""
        names = [name for (name,) in self._all("SELECT name FROM _entgldb_collections ORDER BY name")]
        return [name for name in names if system or not name.startswith(SYSTEM_PREFIX)]

    def conflicts(
        self, collection: str | None = None, skip: int = 0, limit: int | None = None
    ) -> list[Conflict]:
        """Losers of concurrent writes with what won, by collection, key and time of writing."""
        if collection is not None:
            check_collection(collection, system=True)
        rows = (row for row in self._pages(CONFLICT_ROWS, ("", "", 0, 0)) if collection in (None, row[0]))
        return [conflict(row) for row in islice(rows, skip, None if limit is None else skip + limit)]

    def history(self, collection: str, key: str) -> History:
        """The versions of a document, newest first, as far as the log has them. Raises InvalidError."""
        # few readers want the history: those alone load the module
        from entgldb.storage.documents.history import history

        check_collection(collection, system=True)
        return self.put_to(lambda connection: history(connection, collection, check_key(key)))

    def conflict_rule(self, collection: str) -> str:
        """``lww`` or ``merge``. Raises InvalidError."""
        from entgldb.storage.rules.merging.collection_rule import BY_FIELD, LWW, merges

        check_collection(collection, system=True)
        rows = self._all(
            "SELECT body FROM _entgldb_documents WHERE collection = ? AND key = ?", (COLLECTIONS, collection)
        )
        return BY_FIELD if merges(collection, rows[0][0] if rows else None) else LWW

    def changes(self, since: str | None = None, *, collection: str | None = None) -> Changes:
        """Changes after a token, oldest first, each key once with its present version; at least once.

        Without ``collection``, all but the system collections. It ends when all is told; call it again
        with its ``token`` for more. Raises TokenExpired for a token of another file, and for one so old
        that deletes after it may have been forgotten.
        """
        if collection is not None:
            check_collection(collection, system=True)
        return self.feed.after(since, collection)

    def origin(self) -> Origin:
        """The origin under which this node writes."""
        return str(self._all("SELECT value FROM _entgldb_meta WHERE name = 'origin'")[0][0])

    def expelled(self) -> frozenset[str]:
        """The nodes that were expelled, as far as is known here."""
        from entgldb.storage.log.members import expelled

        return self.put_to(expelled)

    def token(self) -> str:
        """The token after everything that is here now."""
        return self.feed.token()

    def data_version(self) -> int:
        """Differs from the value before whenever somebody has committed since."""
        return int(self._all("PRAGMA data_version")[0][0])

    def peers(self) -> list[RemotePeer]:
        """The remote peers that this node knows, by node id; documents that cannot be one are left out."""
        from entgldb.messages.remote_peers import read_peer

        found = []
        for _, document in self.find(REMOTE_PEERS):
            try:
                found.append(read_peer(document))
            except InvalidError:
                continue
        return found

    @functools.cached_property
    def finder(self) -> Finder:
        # a reader of keys alone needs no filters: they are much to import
        from entgldb.storage.documents import filter, order
        from entgldb.storage.documents.finding import Finder

        searching = self._apart()
        searching.put_to(filter.register)
        searching.put_to(order.register)
        return Finder(searching._all, searching.put_to)

    def _apart(self) -> Documents:
        """So that a read by its key does not wait until another thread has searched a million documents.

        This itself where there is no file that could be opened once more, or no longer the same one.
        """
        with self._lock:
            if self._searching is None and self._file is not None:
                other = Documents.open(Path(self._file).parent, held=True)
                if self.replaced():
                    other.close()
                    return self
                self._searching = other
            return self._searching or self

    def _marked(self, rows: _Rows) -> Iterator[tuple[str, Read]]:
        """As ``_reads``, of rows that have a snippet behind the key."""
        reads = self._reads([(row[0], *row[2:]) for row in rows])
        for row, (key, read) in zip(rows, reads, strict=True):
            marked = Marked(*read)
            marked.snippet = row[1]
            yield key, marked

    def _reads(self, rows: _Rows) -> list[tuple[str, Read]]:
        """Keys and documents from rows that begin with the key and the columns of _READ."""
        # few wrote many: a look-up for each row would take a tenth of all
        names = self._named({row[2] for row in rows})
        return [
            (row[0], _made(Read, (row[1], _made(Version, (names[row[2]], row[3])), row[4]))) for row in rows
        ]

    def _named(self, numbers: set[int]) -> dict[int, Origin]:
        """The names of all writers, these among them: a number is given once and for all."""
        if not numbers <= self._names.keys():
            self._names = dict(self._all("SELECT id, name FROM _entgldb_origins"))
        return self._names

    def put_to(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """Have a question of another module answered by the file, in a few short reads."""
        try:
            with self._lock:
                return question(self._connection)
        except FAULTS as fault:
            raise translated(fault, READING_FAILED) from fault

    def _pages(self, sql: str, last: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """Rows in the order of their first columns, a page at a time."""
        while page := self._all(sql, (*last, PAGE_ROWS_MAX)):
            last = page[-1][: len(last)]
            yield from page

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.put_to(lambda connection: connection.execute(sql, values).fetchall())


def _inode(file: str) -> int:
    """0 where there is none."""
    try:
        return os.stat(file).st_ino
    except FileNotFoundError:
        return 0
