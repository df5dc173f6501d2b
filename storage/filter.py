"""Filters to SQL: equality, $gt $gte $lt $lte $in $and $or on dotted field paths.

A field path is a literal in one canonical form, ``json_extract(body,'$."a"."b"')``, in indexes and in
queries alike: SQLite uses an expression index only where the two are the same text. Values are bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, UnsupportedError
from entgldb.messages.limits import DEPTH_MAX

PATH_CHARS_MAX: Final = 256
IN_VALUES_MAX: Final = 1000
"""Values of one ``$in``."""
_COMPARE: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_INT_MAX: Final = 2**63 - 1


class Condition(NamedTuple):
    """SQL and what is bound to it."""

    sql: str
    values: tuple[Any, ...]


def parse_path(path: str) -> tuple[str, ...]:
    """``a.b`` as its parts, or InvalidError."""
    if not isinstance(path, str) or not 0 < len(path) <= PATH_CHARS_MAX:
        raise InvalidError(f"a field path has 1 to {PATH_CHARS_MAX} characters")
    parts = tuple(path.split("."))
    for part in parts:
        if not part or part.startswith("$") or any(c in "\"\\'" or c < " " or c > "\ud7ff" for c in part):
            raise InvalidError(
                f"{path!r:.80} is not a field path",
                hint="use names joined by dots, without quotes, backslashes, or a leading '$'",
            )
    return parts


def extract(parts: Sequence[str]) -> str:
    """The canonical SQL of a field's value."""
    return f"json_extract(body,'{_literal(parts)}')"


def compile_filter(wanted: Mapping[str, Any] | None) -> Condition:
    """A filter as SQL. Raises UnsupportedError for what is not listed above, InvalidError for bad values."""
    return _document({} if wanted is None else wanted, 0)


def compile_sort(sort: str | Sequence[str] | None) -> str:
    """``age`` or ``-age``, or several, as the text of an ORDER BY; ties and no sort go by key."""
    names = [sort] if isinstance(sort, str) else list(sort or ())
    terms = []
    for name in names:
        descending = name.startswith("-")
        terms.append(extract(parse_path(name.removeprefix("-"))) + (" DESC" if descending else ""))
    # a descending walk of the index (field, key) gives keys descending: then no sorting is needed
    terms.append("key DESC" if terms and terms[-1].endswith(" DESC") else "key")
    return ", ".join(terms)


def _literal(parts: Sequence[str]) -> str:
    return "$" + "".join(f'."{part}"' for part in parts)


def _document(wanted: Mapping[str, Any], depth: int) -> Condition:
    if not isinstance(wanted, Mapping):
        raise InvalidError(f"a filter is an object, not a {type(wanted).__name__}")
    if depth > DEPTH_MAX:
        raise InvalidError(f"a filter nested deeper than {DEPTH_MAX}")
    conditions = []
    for name, value in wanted.items():
        if name in ("$and", "$or"):
            conditions.append(_several(name, value, depth))
        elif name.startswith("$"):
            raise _unsupported(name)
        else:
            conditions.append(_field(parse_path(name), value))
    return _joined(conditions, "AND")


def _several(name: str, value: Any, depth: int) -> Condition:
    if not isinstance(value, (list, tuple)) or not value:
        raise InvalidError(f"{name} takes a list of at least one filter")
    return _joined([_document(item, depth + 1) for item in value], name[1:].upper())


def _joined(conditions: list[Condition], word: str) -> Condition:
    if not conditions:
        return Condition("1", ())
    if len(conditions) == 1:
        return conditions[0]
    sql = "(" + f" {word} ".join(condition.sql for condition in conditions) + ")"
    return Condition(sql, tuple(value for condition in conditions for value in condition.values))


def _field(parts: tuple[str, ...], value: Any) -> Condition:
    if not isinstance(value, Mapping):
        return _equal(parts, value)
    if not value:
        raise _unsupported("equality with an object")
    conditions = []
    for operator, operand in value.items():
        if operator in _COMPARE:
            conditions.append(_compared(parts, _COMPARE[operator], operand))
        elif operator == "$in":
            conditions.append(_any_of(parts, operand))
        else:
            raise _unsupported(operator if operator.startswith("$") else "equality with an object")
    return _joined(conditions, "AND")


def _equal(parts: tuple[str, ...], value: Any) -> Condition:
    if value is None:
        return Condition(f"{extract(parts)} IS NULL", ())
    return _typed(parts, value, lambda field: f"{field} = ?", (_bound(value),))


def _compared(parts: tuple[str, ...], operator: str, value: Any) -> Condition:
    if value is None or isinstance(value, bool):
        raise UnsupportedError(f"{operator} with {value!r}", hint="numbers and text have an order")
    return _typed(parts, value, lambda field: f"{field} {operator} ?", (_bound(value),))


def _any_of(parts: tuple[str, ...], values: Any) -> Condition:
    if not isinstance(values, (list, tuple)) or len(values) > IN_VALUES_MAX:
        raise InvalidError(f"$in takes a list of at most {IN_VALUES_MAX} values")
    conditions = [_equal(parts, value) for value in values if value is None or isinstance(value, bool)]
    for kind in ((int, float), str):
        same = tuple(_bound(v) for v in values if isinstance(v, kind) and not isinstance(v, bool))
        if same:
            marks = ",".join("?" * len(same))
            conditions.append(_typed(parts, same[0], lambda field, m=marks: f"{field} IN ({m})", same))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    for value in values:
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise _unsupported(f"$in with a {type(value).__name__}")
    return _joined(conditions, "OR") if conditions else Condition("0", ())


def _typed(
    parts: tuple[str, ...], value: Any, term: Callable[[str], str], values: tuple[Any, ...]
) -> Condition:
    """SQLite orders numbers before text and holds true for 1; JSON does not."""
    if isinstance(value, bool):
        kinds = f"= '{'true' if value else 'false'}'"
    elif isinstance(value, (int, float)):
        kinds = "IN ('integer','real')"
    elif isinstance(value, str):
        kinds = "= 'text'"
    else:
        raise _unsupported(f"comparison with a {type(value).__name__}")
    return Condition(f"({term(extract(parts))} AND json_type(body,'{_literal(parts)}') {kinds})", values)


def _bound(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidError("a filter value is not valid Unicode text") from None
    if isinstance(value, int) and not -_INT_MAX <= value <= _INT_MAX:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidError("a filter value is not a finite number")
    return value


def _unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"a filter with {what} is not supported", hint="use equality, $gt $gte $lt $lte $in $and $or"
    )
