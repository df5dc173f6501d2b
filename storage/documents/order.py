"""Orders to SQL: several fields, each rising or falling, then the key; and the place after a cursor."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import TooLargeError
from entgldb.storage.documents.filter import LARGE, Condition, Lacks, bound, mark
from entgldb.storage.rules.field_path import extract, kind, parse_path
from entgldb.storage.rules.filtering.cursor import Cursor
from entgldb.storage.rules.filtering.parser import collate
from entgldb.storage.rules.filtering.values import at, fold
from entgldb.storage.rules.indexing.entries import is_large

SORT_FIELDS_MAX: Final = 16
"""Fields of one order."""
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


class _Term(NamedTuple):
    """One term of an ORDER BY."""

    sql: str
    falling: bool
    value: Any = None
    """Of the cursor, where there is one."""
    there: bool = False
    """Whether no document has NULL for it."""


class Order(NamedTuple):
    """An order as SQL."""

    text: str
    """Of an ORDER BY."""
    after: Condition
    """That a document stands behind the cursor; always, without one."""
    fields: tuple[tuple[str, ...], ...]
    """The paths."""


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that orders call."""
    connection.create_function("entgldb_rank", 2, _rank_at, deterministic=True)
    connection.create_function("entgldb_fold", 1, fold, deterministic=True)


def compile_order(
    sort: Sequence[str],
    lacks: Lacks = lambda parts, *odd: True,
    *,
    collation: str | None = None,
    after: Cursor | None = None,
    columns: Mapping[tuple[str, ...], str] = MappingProxyType({}),
) -> Order:
    """``age`` or ``-age``, several of them, or none, as SQL; ties go by key.

    Raises InvalidError for no path, TooLargeError.

    ``columns``: of fields whose values an index has in their order; the key has the path ``()``.

    The last of the fields says whether keys rise or fall: a walk of the index (field, key) gives both.
    """
    if len(sort) > SORT_FIELDS_MAX:
        raise TooLargeError(f"an order has at most SORT_FIELDS_MAX = {SORT_FIELDS_MAX} fields")
    fold_text = collate(collation) is fold
    terms: list[_Term] = []
    falling, fields = False, []
    for number, name in enumerate(sort):
        parts, falling = parse_path(name.removeprefix("-")), name.startswith("-")
        fields.append(parts)
        place = None if after is None else after.places[number]
        odd = place is not None and (place[0] == 3 or is_large(place[1]))
        if odd or fold_text or not lacks(parts, "array", "object", "large"):
            terms += [_Term(sql, falling, value) for sql, value in _exact(parts, fold_text, place)]
        else:
            there = falling and place is not None and lacks(parts, "null")
            terms.append(_Term(columns.get(parts) or extract(parts), falling, _within(place), there))
    terms.append(_Term(columns.get((), "key"), falling, None if after is None else after.key, True))
    text = ", ".join(f"{term.sql}{' DESC' if term.falling else ''}" for term in terms)
    return Order(text, Condition("1") if after is None else _behind(terms), tuple(fields))


def _exact(parts: tuple[str, ...], fold_text: bool, place: tuple[int, Any] | None) -> list[tuple[str, Any]]:
    """Terms for a path that may have anything, each with the value at a place.

    Arrays and objects stand behind all, numbers beyond 64 bits at both ends of the numbers, there by rank.
    """
    field, sort = extract(parts), kind(parts)
    nested = f"ifnull({sort} IN ('array','object'),{field} IS NOT NULL)"
    large = f"{sort} IN ('integer','real') AND ({field} >= {LARGE} OR {field} <= -{LARGE})"
    text = f"WHEN {sort} = 'text' THEN entgldb_fold({field}) " if fold_text else ""
    number = place[1] if place is not None and place[0] == 1 else 0
    return [
        (nested, int(place is not None and place[0] == 3)),
        (
            f"CASE WHEN {nested} THEN NULL WHEN {large} THEN {field} * 1e999 {text}ELSE {field} END",
            math.copysign(math.inf, number) if is_large(number) else _within(place),
        ),
        (
            f"CASE WHEN {large} THEN entgldb_rank(body,'{'.'.join(parts)}') END",
            rank(number) if is_large(number) else None,
        ),
    ]


def _within(place: tuple[int, Any] | None) -> Any:
    return place[1] if place is not None and place[0] in (1, 2) else None


def _behind(terms: list[_Term]) -> Condition:
    """That the terms of a document come after those of the cursor, in their order."""
    term, others = terms[0], terms[1:]
    here, value = mark(term.value), bound(term.value)
    values: tuple[Any, ...] = (value,)
    if value is None:
        further, values = "0" if term.falling else f"{term.sql} IS NOT NULL", ()
    elif term.falling:
        further = f"{term.sql} < {here}" + ("" if term.there else f" OR {term.sql} IS NULL")
    else:
        further = f"{term.sql} > {here}"
    if not others:
        return Condition(f"({further})", values)
    rest = _behind(others)
    sql = f"({further} OR ({term.sql} IS {here} AND {rest.sql}))"
    values = (*values, value, *rest.values)
    if value is None or (term.falling and not term.there):
        return Condition(sql, values)
    # by this an index finds the place
    return Condition(f"({term.sql} {'<=' if term.falling else '>='} {here} AND {sql})", (value, *values))


def rank(number: float) -> str:
    """A text that orders numbers beyond 64 bits of one sign exactly."""
    digits = str(abs(int(number)))
    text = f"{len(digits):06}{digits}"
    return text if number > 0 else text.translate(_COMPLEMENT)


def _rank_at(body: str, path: str) -> str:
    return rank(at(json.loads(body), path.split(".")))
