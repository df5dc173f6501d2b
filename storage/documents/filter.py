"""Filters to SQL: equality, $gt $gte $lt $lte $in $and $or on dotted field paths.

Field paths are literals in their canonical form, values are bound. SQLite reads an integer beyond 64 bits
as a double: such numbers are compared by ``rank``, a function of ours.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, UnsupportedError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.storage.rules.field_path import extract, literal, parse_path

IN_VALUES_MAX: Final = 1000
"""Values of one ``$in``."""
_COMPARE: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_INT_MAX: Final = 2**63 - 1
_LARGE: Final = "9223372036854775808.0"
_BETWEEN: Final = "5"
"""The rank of all numbers that fit 64 bits: they stand between those that do not."""

Plain = Callable[[tuple[str, ...]], bool]
"""Whether no document has an array, or a number beyond 64 bits, at a path."""


class Condition(NamedTuple):
    """SQL and what is bound to it."""

    sql: str
    values: tuple[Any, ...]
    either: bool = False
    """Whether it is a list of alternatives."""


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that conditions and orders call."""
    connection.create_function("entgldb_rank", 2, _rank_at, deterministic=True)
    connection.create_function("entgldb_has", 2, _has, deterministic=True)


def compile_filter(
    wanted: Mapping[str, Any] | None, plain: Plain = lambda parts: True, scope: str = ""
) -> Condition:
    """A filter as SQL. Raises UnsupportedError for what is not listed above, InvalidError for bad values.

    Equality and ``$in`` match elements of an array, too. An index serves both: the scalars by their values,
    the arrays by the one place in it where all of them stand. ``scope``: what holds for every document that
    is looked at; SQLite uses a partial index for an alternative only where that is said within it.
    """
    return _Compiler(plain, scope).document({} if wanted is None else wanted, 0)


def compile_sort(sort: str | Sequence[str] | None, plain: Plain = lambda parts: True) -> str:
    """``age`` or ``-age``, or several, as the text of an ORDER BY; ties and no sort go by key."""
    names = [sort] if isinstance(sort, str) else list(sort or ())
    terms = []
    for name in names:
        parts, way = parse_path(name.removeprefix("-")), " DESC" if name.startswith("-") else ""
        terms += [f"{term}{way}" for term in ((extract(parts),) if plain(parts) else _exact_order(parts))]
    # a descending walk of the index (field, key) gives keys descending: then no sorting is needed
    terms.append("key DESC" if terms and terms[-1].endswith(" DESC") else "key")
    return ", ".join(terms)


def unusual(parts: Sequence[str]) -> Iterable[str]:
    """Conditions that an index serves; where none of them holds for any document, a path is ``Plain``."""
    field = extract(parts)
    # in an index numbers stand before all text, and an array as the text of it
    yield f"{field} >= {_LARGE} AND {field} < ''"
    yield f"{field} <= -{_LARGE}"
    yield _array(parts)


def rank(number: float) -> str:
    """A text that orders any two numbers, at least one of them beyond 64 bits, exactly."""
    if -_INT_MAX <= number <= _INT_MAX:
        return _BETWEEN
    try:
        digits = str(abs(int(number)))
    except ValueError:
        raise UnsupportedError(
            "a whole number of more than 4,300 digits is not supported in a filter"
        ) from None
    text = f"{len(digits):06}{digits}"
    return f"9{text}" if number > 0 else "1" + text.translate(_COMPLEMENT)


def _type(parts: Sequence[str]) -> str:
    return f"json_type(body,'{literal(parts)}')"


def _array(parts: Sequence[str]) -> str:
    """That a path has an array: its text begins with a bracket, and with others like it stands together in an
    index."""
    field = extract(parts)
    return f"{field} >= '[' AND {field} < '\\' AND {_type(parts)} = 'array'"


def _exact_order(parts: Sequence[str]) -> tuple[str, str]:
    """Terms for a path that may have numbers beyond 64 bits: those at both ends, there by rank."""
    field = extract(parts)
    large = f"{_type(parts)} IN ('integer','real') AND ({field} >= {_LARGE} OR {field} <= -{_LARGE})"
    return (
        f"CASE WHEN {large} THEN {field} * 1e999 ELSE {field} END",
        f"CASE WHEN {large} THEN entgldb_rank(body,'{'.'.join(parts)}') END",
    )


class _Compiler:
    """Compiles one filter."""

    def __init__(self, plain: Plain, scope: str) -> None:
        self._plain = plain
        self._scope = scope

    def document(self, wanted: Mapping[str, Any], depth: int) -> Condition:
        if not isinstance(wanted, Mapping):
            raise InvalidError(f"a filter is an object, not a {type(wanted).__name__}")
        if depth > DEPTH_MAX:
            raise InvalidError(f"a filter nested deeper than {DEPTH_MAX}")
        conditions = []
        for name, value in wanted.items():
            if name in ("$and", "$or"):
                conditions.append(self._several(name, value, depth))
            elif name.startswith("$"):
                raise _unsupported(name)
            else:
                conditions.append(self._field(parse_path(name), value))
        return _joined(conditions, "AND")

    def _several(self, name: str, value: Any, depth: int) -> Condition:
        if not isinstance(value, (list, tuple)) or not value:
            raise InvalidError(f"{name} takes a list of at least one filter")
        found = [self.document(item, depth + 1) for item in value]
        return self._either(found) if name == "$or" else _joined(found, "AND")

    def _either(self, conditions: list[Condition]) -> Condition:
        """Alternatives; those of one of them are alternatives of the whole."""
        if len(conditions) == 1:
            return conditions[0]
        scoped = f"{self._scope} AND " if self._scope else ""
        within = [one if one.either else one._replace(sql=f"({scoped}{one.sql})") for one in conditions]
        return _joined(within, "OR")._replace(either=True)

    def _field(self, parts: tuple[str, ...], value: Any) -> Condition:
        if not isinstance(value, Mapping):
            return self._any_of(parts, [value], "equality")
        if not value:
            raise _unsupported("equality with an object")
        conditions = []
        for operator, operand in value.items():
            if operator in _COMPARE:
                conditions.append(_compared(parts, _COMPARE[operator], operand))
            elif operator == "$in":
                if not isinstance(operand, (list, tuple)) or len(operand) > IN_VALUES_MAX:
                    raise InvalidError(f"$in takes a list of at most {IN_VALUES_MAX} values")
                conditions.append(self._any_of(parts, operand, "$in"))
            else:
                raise _unsupported(operator if operator.startswith("$") else "equality with an object")
        return _joined(conditions, "AND")

    def _any_of(self, parts: tuple[str, ...], values: Sequence[Any], what: str) -> Condition:
        conditions = []
        kinds: dict[type, list[Any]] = {bool: [], float: [], str: []}
        for value in values:
            if value is None:
                conditions.append(Condition(f"{extract(parts)} IS NULL", ()))
            elif isinstance(value, (list, tuple)):
                raise UnsupportedError(
                    f"a filter with {what} with an array is not supported",
                    hint="one value finds the arrays that have it",
                )
            elif _is_large(value):
                conditions.append(_compared(parts, "=", value))
            elif isinstance(value, (bool, float, str, int)):
                kinds[float if type(value) is int else type(value)].append(_bound(value))
            else:
                raise _unsupported(f"{what} with a {type(value).__name__}")
        for kind, same in kinds.items():
            for truth in sorted(set(same)) if kind is bool else ():
                conditions.append(_typed(parts, bool(truth), "= ?", (truth,)))
            if same and kind is not bool:
                marks = "= ?" if len(same) == 1 else f"IN ({','.join('?' * len(same))})"
                if any(map(_is_ambiguous, same)):
                    conditions.append(_typed(parts, same[0], marks, tuple(same)))
                else:
                    # an index tells it alone: the document is not looked into
                    conditions.append(Condition(f"{extract(parts)} {marks}", tuple(same)))
        some = [value for value in values if value is not None]
        if some and not self._plain(parts):
            has = f"({_array(parts)} AND entgldb_has({extract(parts)}, ?))"
            conditions.append(Condition(has, (json.dumps(some),)))
        return self._either(conditions) if conditions else Condition("0", ())


def _joined(conditions: list[Condition], word: str) -> Condition:
    if not conditions:
        return Condition("1", ())
    if len(conditions) == 1:
        return conditions[0]
    sql = "(" + f" {word} ".join(condition.sql for condition in conditions) + ")"
    return Condition(sql, tuple(value for condition in conditions for value in condition.values))


def _compared(parts: tuple[str, ...], operator: str, value: Any) -> Condition:
    if value is None or isinstance(value, bool):
        raise UnsupportedError(f"{operator} with {value!r}", hint="numbers and text have an order")
    if not _is_large(value):
        return _typed(parts, value, f"{operator} ?", (_bound(value),))
    field = extract(parts)
    found = (
        f"CASE WHEN {field} >= {_LARGE} OR {field} <= -{_LARGE} THEN entgldb_rank(body,'{'.'.join(parts)}')"
        f" ELSE '{_BETWEEN}' END"
    )
    kinds = f"{_type(parts)} IN ('integer','real')"
    if operator == "=":
        # all that it can be stands at one end of an index
        ends = (_LARGE, "1e999") if value > 0 else ("-1e999", f"-{_LARGE}")
        kinds += f" AND {field} BETWEEN {ends[0]} AND {ends[1]}"
    return Condition(f"({kinds} AND {found} {operator} ?)", (rank(_finite(value)),))


def _typed(parts: tuple[str, ...], value: Any, term: str, values: tuple[Any, ...]) -> Condition:
    """SQLite orders numbers before text and holds true for 1; JSON does not."""
    if isinstance(value, bool):
        kinds = f"= '{'true' if value else 'false'}'"
    elif isinstance(value, (int, float)):
        kinds = "IN ('integer','real')"
    elif isinstance(value, str):
        kinds = "= 'text'"
    else:
        raise _unsupported(f"comparison with a {type(value).__name__}")
    return Condition(f"({extract(parts)} {term} AND {_type(parts)} {kinds})", values)


def _bound(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidError("a filter value is not valid Unicode text") from None
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidError("a filter value is not a finite number")
    return value


def _is_large(value: Any) -> bool:
    return isinstance(value, (int, float)) and not -_INT_MAX <= value <= _INT_MAX


def _rank_at(body: str, path: str) -> str | None:
    value: Any = json.loads(body)
    for part in path.split("."):
        value = value[part]
    return rank(value)


def _is_ambiguous(value: Any) -> bool:
    """Whether SQLite may give the same for a value of another kind: true is 1, and an array is its text."""
    return value.startswith(("[", "{")) if isinstance(value, str) else value in (0, 1)


def _has(array: str, wanted: str) -> bool:
    """Whether one of the scalars ``wanted`` stands in the array; true is not 1."""
    values = json.loads(wanted)
    return any(
        item == value and (type(item) is bool) is (type(value) is bool)
        for item in json.loads(array)
        for value in values
    )


_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


def _unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"a filter with {what} is not supported", hint="use equality, $gt $gte $lt $lte $in $and $or"
    )
