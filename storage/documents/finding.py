"""Finding documents by filters and orders: the questions of ``Documents`` as SQL."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import check_collection
from entgldb.messages.schema import Json
from entgldb.storage.documents.filter import LARGE, ODD, Condition, compile_filter
from entgldb.storage.documents.order import Order, compile_order
from entgldb.storage.rules.field_path import extract, kind, parse_path
from entgldb.storage.rules.filtering.cursor import names, read_cursor
from entgldb.storage.rules.filtering.values import MISSING, identity, order, reached

DISTINCT_MAX: Final = 10_000
"""Values that ``distinct`` gives."""

Rows = list[tuple[Any, ...]]
Ask = Callable[[str, Sequence[Any]], Rows]
"""Has a statement answered by the file."""


class Finder:
    """Reads one file; ``filter.register`` and ``order.register`` have seen its connection."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

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
    ) -> Iterator[Rows]:
        """Rows of key and ``columns``, page by page; the first statement is carried out at the call.

        Raises as ``parse_filter``, and InvalidError for another bad argument.
        """
        limit, skip = _bound(limit, "limit"), _bound(skip, "skip") or 0
        condition, by = self.question(collection, filter, sort, after=after, collation=collation)
        found = where(collection, condition)
        if limit is not None and limit <= PAGE_ROWS_MAX:
            sql = f"SELECT key, {columns} FROM {found} ORDER BY {by.text} LIMIT ? OFFSET ?"  # noqa: S608 -- compiled
            return iter((self.ask(sql, (*condition.values, limit, skip)),))
        sql = f"SELECT id FROM {found} ORDER BY {by.text} LIMIT ? OFFSET ?"  # noqa: S608 -- compiled
        numbers = self.ask(sql, (*condition.values, -1 if limit is None else limit, skip))
        return self._numbered(columns, found, condition, [number for (number,) in numbers])

    def count(self, collection: str, filter: Mapping[str, Any] | None, collation: str | None) -> int:
        """How many documents match."""
        condition = self._condition(collection, filter, collation)
        sql = f"SELECT count(*) FROM {where(collection, condition)}"  # noqa: S608 -- compiled
        return int(self.ask(sql, condition.values)[0][0])

    def distinct(
        self, collection: str, path: str, filter: Mapping[str, Any] | None, collation: str | None
    ) -> list[Json]:
        """The different values at a path, those of arrays one by one, in order. Raises TooLargeError."""
        parts = parse_path(path)
        field, sort = extract(parts), kind(parts)
        condition = self._condition(collection, filter, collation)
        found = where(collection, condition)
        # SQLite has these otherwise than they are
        odd = (
            f"({field} IS NOT NULL AND ifnull({sort} IN ('array','object','real')"
            f" OR ({sort} = 'integer' AND ({field} >= {LARGE} OR {field} <= -{LARGE})), 1))"
        )
        usual = self.ask(
            f"SELECT DISTINCT {sort}, {field} FROM {found} AND NOT {odd} AND {sort} IS NOT NULL LIMIT ?",  # noqa: S608 -- compiled
            (*condition.values, DISTINCT_MAX + 1),
        )
        values = _Different()
        for name, value in usual:
            values.add(value == 1 if name in ("true", "false") else value)
        sql = f"SELECT key, body FROM {found} AND {odd} AND key > ? ORDER BY key LIMIT ?"  # noqa: S608 -- compiled
        last = ""
        while rows := self.ask(sql, (*condition.values, last, PAGE_ROWS_MAX)):
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
    ) -> tuple[Condition, Order]:
        """A filter, with the place of a cursor, and an order, as SQL."""
        named = names(sort)
        cursor = None if after is None else read_cursor(after, named, collation)
        lacks = functools.partial(self._lacks, collection)
        by = compile_order(named, lacks, collation=collation, after=cursor)
        condition = self._condition(collection, filter, collation)
        if cursor is not None:
            values = (*condition.values, *by.after.values)
            condition = Condition(f"{condition.sql} AND {by.after.sql}", values)
        return condition, by

    def _condition(
        self, collection: str, filter: Mapping[str, Any] | None, collation: str | None
    ) -> Condition:
        lacks = functools.partial(self._lacks, collection)
        return compile_filter(filter, lacks, scope(collection), collation=collation)

    def _lacks(self, collection: str, parts: tuple[str, ...], *odd: str) -> bool:
        """Whether an index says that no document has anything of some sorts in ODD at a path."""
        rows = where(collection, Condition(""))
        found = [f"EXISTS (SELECT 1 FROM {rows}{one})" for sort in odd for one in ODD[sort](parts)]  # noqa: S608 -- compiled
        # without an index these would read all documents: CASE does not even begin
        sql = (
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM _entgldb_indexes WHERE collection = ? AND path = ?)"  # noqa: S608 -- compiled
            f" THEN NOT ({' OR '.join(found)}) END"
        )
        return bool(self.ask(sql, (collection, ".".join(parts)))[0][0])

    def _numbered(self, columns: str, found: str, condition: Condition, numbers: list[int]) -> Iterator[Rows]:
        """The rows of some numbers that still match, in the order of the numbers."""
        for start in range(0, len(numbers), PAGE_ROWS_MAX):
            page = numbers[start : start + PAGE_ROWS_MAX]
            marks = ",".join("?" * len(page))
            sql = f"SELECT key, {columns}, id FROM {found} AND id IN ({marks})"  # noqa: S608 -- compiled
            rows = {row[-1]: row[:-1] for row in self.ask(sql, (*condition.values, *page))}
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


def where(collection: str, condition: Condition) -> str:
    """The documents of a collection that meet a condition, as what follows FROM."""
    return f"_entgldb_documents WHERE {scope(collection)} AND {condition.sql}"


def _bound(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidError(f"{name} {value!r:.40} is not a whole number from 0")
    return value
