"""Finding documents by filters and orders: the questions of ``Documents`` as SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from entgldb.messages.errors import BusyError, InvalidError, TooLargeError
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import check_collection
from entgldb.messages.schema import Json
from entgldb.storage.documents.filter import LARGE, Condition, compile_filter
from entgldb.storage.documents.order import compile_order
from entgldb.storage.documents.planning import Ask, KnownIndexes, Planner, Way
from entgldb.storage.documents.words import (
    BEST_FIRST,
    IN_TURN,
    NO_TEXT,
    TEXT,
    Worded,
    check_marks,
    find_words,
    split,
)
from entgldb.storage.file.schema import MOVED
from entgldb.storage.indexes.catalogue import HAS_WORDS, Index, refuse_without_words
from entgldb.storage.rules.field_path import extract, kind, parse_path
from entgldb.storage.rules.filtering.cursor import names, read_cursor
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.rules.filtering.values import MISSING, identity, order, reached

DISTINCT_MAX: Final = 10_000
"""Values that ``distinct`` gives."""

Rows = list[tuple[Any, ...]]
T = TypeVar("T")
_MOVES: Final = "SELECT value FROM _entgldb_meta WHERE name = ?"


class Question(NamedTuple):
    """A filter and an order as SQL."""

    way: Way
    beyond: str
    """The conditions that are asked of each document besides."""
    values: tuple[Any, ...]
    """The values bound in it."""
    order: str
    """The text behind ORDER BY."""
    whole: Callable[[], Condition]
    """The documents that match, as what stands behind FROM where their numbers are known."""
    words: Worded | None
    words_alone: bool
    """Whether nothing else is asked of a document than its words."""
    sorted_first: bool = False
    """Whether an index tells all that matches and its order, but has to be sorted."""

    @property
    def source(self) -> str:
        """The text behind FROM."""
        return f"{self.way.source} AND {self.beyond}"

    def page(self, *, marked: bool) -> tuple[str, tuple[Any, ...]]:
        """The text behind FROM for a page, of which size and beginning are bound behind the values; what is
        bound behind those. ``marked``: snippets are wanted."""
        end = f"ORDER BY {self.order} LIMIT ? OFFSET ?"
        if self.words is not None and self.order == BEST_FIRST:
            return self.words.best(None if self.words_alone else self.source, end, marked=marked)
        if not self.sorted_first:
            return f"{self.source} {end}", ()
        # entries are sorted without their documents, and few of those are fetched
        chosen = f"SELECT * FROM {self.way.counts} {end}"  # noqa: S608 -- compiled
        return f"({chosen}) s CROSS JOIN _entgldb_documents ON id = s.doc ORDER BY {self.order}", ()

    def indexes(self) -> tuple[str, ...]:
        """The names of the indexes that find the documents."""
        if self.words is not None:
            return (self.words.name,)
        one = () if self.way.by is None else (self.way.by.definition.name,)
        return tuple(dict.fromkeys(self.way.branches or one))

    def marked(self, columns: str) -> str:
        """The columns and a snippet. Raises InvalidError where no words are asked for."""
        if self.words is None:
            raise InvalidError(f"highlight shows words that {TEXT} asks for, and the filter has no {TEXT}")
        return f"{self.words.snippet()}, {columns}"


class Finder:
    """Reads one file; ``filter.register`` and ``order.register`` have seen its connection."""

    def __init__(self, ask: Ask, put_to: Callable[[Callable[[sqlite3.Connection], Any]], Any]) -> None:
        self.ask = ask
        self._put_to = put_to
        self._indexes = KnownIndexes()

    def steadily(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a few reads of one state of the file: a plan is good for the state that it was made of."""

        def at_once(connection: sqlite3.Connection) -> T:
            if connection.in_transaction:
                return work(connection)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")

        made: T = self._put_to(at_once)
        return made

    def indexes(self, collection: str) -> list[Index]:
        """The indexes of a collection, also those that are being built."""
        return self._indexes.of(self.ask, collection)

    def pages(
        self,
        columns: str,
        collection: str,
        filter: Mapping[str, Any] | None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
        after: str | None = None,
        collation: str | None = None,
        marks: tuple[str, str] | None = None,
    ) -> Iterator[Rows]:
        """Rows of key and ``columns``, page by page; the first statement is carried out at the call.

        ``marks``: around words that ``$text`` asks for; the last column is a snippet with them then.

        Raises as ``parse_filter``, and InvalidError for another bad argument.
        """
        limit, skip = _checked(limit, "limit"), _checked(skip, "skip") or 0

        def first(connection: sqlite3.Connection) -> Iterator[Rows]:
            found = self.question(collection, filter, sort, after=after, collation=collation)
            if found.words is not None and found.order == BEST_FIRST and found.words.says_little(self.ask):
                found = found._replace(order=IN_TURN)
            shown, values = columns, found.values
            if marks is not None:
                shown = found.marked(columns)
                values = (*check_marks(marks, limit, PAGE_ROWS_MAX), *values)
            if limit is not None and limit <= PAGE_ROWS_MAX:
                source, more = found.page(marked=marks is not None)
                sql = f"SELECT key, {shown} FROM {source}"  # noqa: S608 -- compiled
                return iter((self.ask(sql, (*values, limit, skip, *more)),))
            sql = f"SELECT id FROM {found.source} ORDER BY {found.order} LIMIT ? OFFSET ?"  # noqa: S608 -- compiled
            numbers = self.ask(sql, (*values, -1 if limit is None else limit, skip))
            moved = self.ask(_MOVES, (MOVED,))
            return self._numbered(columns, found.whole(), [number for (number,) in numbers], moved)

        return self.steadily(first)

    def count(self, collection: str, filter: Mapping[str, Any] | None, collation: str | None) -> int:
        """How many documents match."""

        def count(connection: sqlite3.Connection) -> int:
            found = self.question(collection, filter, None, collation=collation)
            sql = f"SELECT count(*) FROM {found.way.counts or found.source}"  # noqa: S608 -- compiled
            return int(self.ask(sql, found.values)[0][0])

        return self.steadily(count)

    def distinct(
        self, collection: str, path: str, filter: Mapping[str, Any] | None, collation: str | None
    ) -> list[Json]:
        """The different values at a path, those of arrays one by one, in order. Raises TooLargeError."""
        return self.steadily(lambda _: self._distinct(collection, parse_path(path), filter, collation))

    def _distinct(
        self,
        collection: str,
        parts: tuple[str, ...],
        filter: Mapping[str, Any] | None,
        collation: str | None,
    ) -> list[Json]:
        field, sort = extract(parts), kind(parts)
        asked = self.question(collection, filter, None, collation=collation)
        found = asked.source
        # SQLite has these otherwise than they are
        odd = (
            f"({field} IS NOT NULL AND ifnull({sort} IN ('array','object','real')"
            f" OR ({sort} = 'integer' AND ({field} >= {LARGE} OR {field} <= -{LARGE})), 1))"
        )
        usual = self.ask(
            f"SELECT DISTINCT {sort}, {field} FROM {found} AND NOT {odd} AND {sort} IS NOT NULL LIMIT ?",  # noqa: S608 -- compiled
            (*asked.values, DISTINCT_MAX + 1),
        )
        values = _Different()
        for name, value in usual:
            values.add(value == 1 if name in ("true", "false") else value)
        sql = f"SELECT key, body FROM {found} AND {odd} AND key > ? ORDER BY key LIMIT ?"  # noqa: S608 -- compiled
        last = ""
        while rows := self.ask(sql, (*asked.values, last, PAGE_ROWS_MAX)):
            last = rows[-1][0]
            for _, body in rows:
                for value in reached(json.loads(body), parts):
                    for one in value if isinstance(value, list) else (value,):
                        values.add(one)
        return values.sorted()

    def question(
        self,
        collection: str,
        filter: Mapping[str, Any] | None,
        sort: str | Sequence[str] | None,
        *,
        after: str | None = None,
        collation: str | None = None,
    ) -> Question:
        """A filter, with the place of a cursor, and an order, as SQL.

        Raises NotFoundError and BusyError where the filter has ``$text`` and no index of words is built.
        """
        within, named = scope(collection), names(sort)
        wanted, text = split(filter)
        node = parse_filter(wanted, collation)
        cursor = None if after is None else read_cursor(after, named, collation)
        known = self.indexes(collection)
        planner = Planner(self.ask, known, within)
        worded = None
        if text is NO_TEXT:
            way = planner.way(node, () if collation else named)
        else:
            refuse_without_words(self.ask(HAS_WORDS, ()))
            worded = find_words(known, collection, text)
            way = Way(None, worded.source(within), (worded.match,), node, {})
            if cursor is not None and not named:
                raise InvalidError(
                    f"the order by rank of {TEXT} has no cursor", hint="sort by a field, or skip"
                )
        condition = compile_filter(wanted, planner.lacks, collation=collation, rest=way.rest)
        by = compile_order(named, planner.lacks, collation=collation, after=cursor, columns=way.columns)

        def whole() -> Condition:
            # long after the plan was made
            every = compile_filter(wanted, lambda parts, *odd: False, collation=collation)
            found = Condition(f"_entgldb_documents WHERE {within} AND {every.sql}", every.values)
            return found if worded is None else worded.within(found)

        return Question(
            way,
            f"{condition.sql} AND {by.after.sql}",
            (*way.values, *condition.values, *by.after.values),
            by.text if worded is None or named else BEST_FIRST,
            whole,
            worded,
            not wanted and cursor is None,
            cursor is None and way.sorts and all(parts in way.columns for parts in by.fields),
        )

    def _numbered(self, columns: str, whole: Condition, numbers: list[int], moved: Rows) -> Iterator[Rows]:
        """The rows of some numbers that still match, in the order of the numbers.

        Raises BusyError where they are the numbers of other documents by now.
        """
        for start in range(0, len(numbers), PAGE_ROWS_MAX):
            page = numbers[start : start + PAGE_ROWS_MAX]
            marks = ",".join("?" * len(page))
            sql = f"SELECT key, {columns}, id FROM {whole.sql} AND id IN ({marks})"  # noqa: S608 -- compiled
            rows = {row[-1]: row[:-1] for row in self.ask(sql, (*whole.values, *page))}
            if self.ask(_MOVES, (MOVED,)) != moved:
                raise BusyError(
                    "a snapshot has taken the place of the documents while they were read",
                    hint="read them again; up to 500 at a time are read at once",
                )
            yield [rows[number] for number in page if number in rows]


class _Different:
    """Values, each once."""

    def __init__(self) -> None:
        self._values: dict[Any, Json] = {}

    def add(self, value: Any) -> None:
        if value is not MISSING:
            self._values.setdefault(identity(value), value)
        if len(self._values) > DISTINCT_MAX:
            raise TooLargeError(
                f"there are more than DISTINCT_MAX = {DISTINCT_MAX} different values",
                hint="narrow them by a filter",
            )

    def sorted(self) -> list[Json]:
        return sorted(
            self._values.values(), key=lambda value: (order(value), json.dumps(value, sort_keys=True))
        )


def scope(collection: str) -> str:
    """The condition that every document of a collection meets. Raises InvalidError."""
    check_collection(collection, system=True)
    return f"collection = '{collection}' AND body IS NOT NULL"


def _checked(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidError(f"{name} {value!r:.40} is not a whole number from 0")
    return value
