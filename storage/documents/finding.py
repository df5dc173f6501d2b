"""Finding documents by filters and orders: the questions of ``Documents`` as SQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import check_collection
from entgldb.messages.schema import Json
from entgldb.storage.documents.filter import LARGE, Condition, compile_filter
from entgldb.storage.documents.order import compile_order
from entgldb.storage.documents.planning import Ask, KnownIndexes, Planner, Way
from entgldb.storage.documents.words import BEST_FIRST, NO_TEXT, TEXT, Worded, check_marks, find_words, split
from entgldb.storage.indexes.catalogue import HAS_WORDS, Index, refuse_without_words
from entgldb.storage.rules.field_path import extract, kind, parse_path
from entgldb.storage.rules.filtering.cursor import names, read_cursor
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.rules.filtering.values import MISSING, identity, order, reached

DISTINCT_MAX: Final = 10_000
"""Values that ``distinct`` gives."""

Rows = list[tuple[Any, ...]]


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

    @property
    def source(self) -> str:
        """The text behind FROM."""
        return f"{self.way.source} AND {self.beyond}"

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

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._indexes = KnownIndexes()

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
        limit, skip = _bound(limit, "limit"), _bound(skip, "skip") or 0
        found = self.question(collection, filter, sort, after=after, collation=collation)
        if marks is not None:
            columns, values = (
                found.marked(columns),
                (*check_marks(marks, limit, PAGE_ROWS_MAX), *found.values),
            )
        else:
            values = found.values
        if limit is not None and limit <= PAGE_ROWS_MAX:
            sql = f"SELECT key, {columns} FROM {found.source} ORDER BY {found.order} LIMIT ? OFFSET ?"  # noqa: S608 -- compiled
            return iter((self.ask(sql, (*values, limit, skip)),))
        sql = f"SELECT id FROM {found.source} ORDER BY {found.order} LIMIT ? OFFSET ?"  # noqa: S608 -- compiled
        numbers = self.ask(sql, (*values, -1 if limit is None else limit, skip))
        return self._numbered(columns, found.whole(), [number for (number,) in numbers])

    def count(self, collection: str, filter: Mapping[str, Any] | None, collation: str | None) -> int:
        """How many documents match."""
        found = self.question(collection, filter, None, collation=collation)
        sql = f"SELECT count(*) FROM {found.way.counts or found.source}"  # noqa: S608 -- compiled
        return int(self.ask(sql, found.values)[0][0])

    def distinct(
        self, collection: str, path: str, filter: Mapping[str, Any] | None, collation: str | None
    ) -> list[Json]:
        """The different values at a path, those of arrays one by one, in order. Raises TooLargeError."""
        parts = parse_path(path)
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
        condition = compile_filter(wanted, planner.lacks, within, collation=collation, rest=way.rest)
        by = compile_order(named, planner.lacks, collation=collation, after=cursor, columns=way.columns)

        def whole() -> Condition:
            every = compile_filter(wanted, planner.lacks, within, collation=collation)
            found = Condition(f"_entgldb_documents WHERE {within} AND {every.sql}", every.values)
            return found if worded is None else worded.within(found)

        return Question(
            way,
            f"{condition.sql} AND {by.after.sql}",
            (*way.values, *condition.values, *by.after.values),
            by.text if worded is None or named else BEST_FIRST,
            whole,
            worded,
        )

    def _numbered(self, columns: str, whole: Condition, numbers: list[int]) -> Iterator[Rows]:
        """The rows of some numbers that still match, in the order of the numbers."""
        for start in range(0, len(numbers), PAGE_ROWS_MAX):
            page = numbers[start : start + PAGE_ROWS_MAX]
            marks = ",".join("?" * len(page))
            sql = f"SELECT key, {columns}, id FROM {whole.sql} AND id IN ({marks})"  # noqa: S608 -- compiled
            rows = {row[-1]: row[:-1] for row in self.ask(sql, (*whole.values, *page))}
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
    # the name stands as a literal because a partial index is used only where it is provably implied
    check_collection(collection, system=True)
    return f"collection = '{collection}' AND body IS NOT NULL"


def _bound(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidError(f"{name} {value!r:.40} is not a whole number from 0")
    return value
