"""Filters to SQL. SQLite decides where it has values as they are; the plain matcher is asked of the rest.

Field paths are literals in their canonical form, values are bound. SQLite has an array as its text, and a
number beyond 64 bits as a double: a condition that may meet those asks ``entgldb_matches``, a function of
ours, of each.
"""

from __future__ import annotations

import functools
import json
import math
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from entgldb.storage.rules.field_path import extract, kind
from entgldb.storage.rules.filtering import nodes
from entgldb.storage.rules.filtering.parser import from_text, parse_filter, plain
from entgldb.storage.rules.filtering.values import fold
from entgldb.storage.rules.indexing.entries import is_large

SQL_CHARS_MAX: Final = 500_000
"""Characters of a condition; SQLite takes twice as many. The plain matcher decides what would have more."""
SQL_VALUES_MAX: Final = 30_000
"""Values bound in a condition; SQLite takes a little more."""
LARGE: Final = "9223372036854775808.0"
"""The least number that fits no 64 bits."""
_MATCHES: Final = "entgldb_matches(body, ?)"
COMPARE: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_KINDS: Final = {
    "null": "'null'",
    "bool": "'true','false'",
    "number": "'integer','real'",
    "string": "'text'",
    "array": "'array'",
    "object": "'object'",
}

_Sourced = nodes.Field | nodes.Exists | nodes.Size | nodes.Elements
Lacks = Callable[..., bool]
"""Called with a path and some of ``array``, ``object``, ``large`` (a number beyond 64 bits) and ``null``:
whether it is known that no document has any such thing there."""


class Condition(NamedTuple):
    """SQL and what is bound to it."""

    sql: str
    values: tuple[Any, ...] = ()


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the function that conditions call."""
    connection.create_function("entgldb_matches", 2, _matches, deterministic=True)


def compile_filter(
    wanted: Mapping[str, Any] | None,
    lacks: Lacks = lambda parts, *odd: True,
    *,
    collation: str | None = None,
    rest: nodes.Node | None = None,
) -> Condition:
    """A filter as SQL. Raises as ``parse_filter``.

    ``rest``: what of the filter is still to be asked; None: all of it.
    """
    condition = _Compiler(lacks).node(parse_filter(wanted, collation) if rest is None else rest)
    if len(condition.sql) > SQL_CHARS_MAX or len(condition.values) > SQL_VALUES_MAX:
        return Condition(_MATCHES, (json.dumps([plain(wanted), collation], ensure_ascii=False),))
    return condition


def _array(parts: tuple[str, ...]) -> str:
    """That an array stands at a path or on the way to it: such text begins with a bracket."""
    field = extract(parts)
    return f"{field} BETWEEN '[' AND '\\' AND {kind(parts)} IS NOT 'text'"


def _end(parts: tuple[str, ...], sign: float) -> str:
    """That a number fits no 64 bits."""
    field = extract(parts)
    return (
        f"{field} >= {LARGE} AND {field} < ''" if sign > 0 else f"{field} >= -1e999 AND {field} <= -{LARGE}"
    )


class _Compiler:
    """Compiles one filter."""

    def __init__(self, lacks: Lacks) -> None:
        self._lacks = lacks

    def node(self, node: nodes.Node) -> Condition:
        if isinstance(node, nodes.Every):
            return _joined([self.node(one) for one in node.nodes], "AND")
        if isinstance(node, nodes.Some):
            return self._either([self.node(one) for one in node.nodes])
        if isinstance(node, nodes.No):
            inner = self.node(node.node)
            return Condition(f"(({inner.sql}) IS NOT TRUE)", inner.values)
        if isinstance(node, nodes.Exists):
            there = Condition(f"{kind(node.parts)} IS NOT NULL")
            # only an array on the way hides what is there
            return there if len(node.parts) == 1 else self._either([there, *self._among_arrays(node)])
        if isinstance(node, (nodes.Size, nodes.Elements)):
            return self._either(self._among_arrays(node))
        assert isinstance(node, nodes.Field)
        return self._either([*self._usual(node), *self._among_arrays(node)])

    def _usual(self, node: nodes.Field) -> list[Condition]:
        """Alternatives for where no array is at the path or on the way to it."""
        test = node.test
        if isinstance(test, nodes.Equal):
            return self._equal(node, test)
        if isinstance(test, nodes.Compared):
            return self._compared(node, test)
        if isinstance(test, nodes.Kinds):
            return [
                Condition(f"{kind(node.parts)} IN ({','.join(_KINDS[name] for name in sorted(test.names))})")
            ]
        if isinstance(test, nodes.Part):
            return self._part(node, test)
        assert isinstance(test, nodes.Pattern)
        begins = _begins(node.parts, test.regex.prefix)
        return [_joined([begins, _asked(node)], "AND")]

    def _equal(self, node: nodes.Field, test: nodes.Equal) -> list[Condition]:
        parts, field = node.parts, extract(node.parts)
        conditions, asked = [], set()
        kinds: dict[type, list[Any]] = {bool: [], float: [], str: []}
        for value in test.values:
            if value is None:
                conditions.append(Condition(f"{field} IS NULL"))
            elif isinstance(value, str) and test.collate is fold:
                asked.add(f"{field} >= ''")
            elif isinstance(value, dict):
                asked.add(f"{field} >= '{{' AND {field} < '|'")
            elif is_large(value):
                # all that it can be stands at one end of the numbers
                asked.add(_end(parts, value))
            elif not isinstance(value, list):
                kinds[float if type(value) is int else type(value)].append(value)
        for truth in sorted(set(kinds.pop(bool))):
            conditions.append(_typed(parts, truth, "= ?", (int(truth),)))
        for same in filter(None, kinds.values()):
            values = tuple(map(bound, same))
            marks = f"= {mark(same[0])}" if len(same) == 1 else f"IN ({','.join(map(mark, same))})"
            if any(map(is_ambiguous, same)):
                conditions.append(_typed(parts, same[0], marks, values))
            else:
                # an index tells it alone: the document is not looked into
                conditions.append(Condition(f"{field} {marks}", values))
        return conditions + [_joined([Condition(one), _asked(node)], "AND") for one in sorted(asked)]

    def _compared(self, node: nodes.Field, test: nodes.Compared) -> list[Condition]:
        field = extract(node.parts)
        if isinstance(test.value, str) and test.collate is fold:
            return [_joined([Condition(f"{field} >= ''"), _asked(node)], "AND")]
        if not is_large(test.value):
            return [_ranged(node.parts, test.name, test.value)]
        beyond = (test.value > 0) is test.name.startswith("$gt")
        end = _end(node.parts, test.value)
        # the numbers that are compared with it are at its end, or all
        return [_joined([Condition(end if beyond else f"{field} < ''"), _asked(node)], "AND")]

    def _part(self, node: nodes.Field, test: nodes.Part) -> list[Condition]:
        if test.collate is fold:
            return [_joined([Condition(f"{kind(node.parts)} = 'text'"), _asked(node)], "AND")]
        if test.first:
            return [_begins(node.parts, test.text)]
        text = f"({kind(node.parts)} = 'text' AND instr({extract(node.parts)}, ?))"
        return [Condition(text, (test.text,))]

    def _among_arrays(self, node: _Sourced) -> list[Condition]:
        """That an array is at the path or on the way to it, and the plain matcher says yes."""
        if self._lacks(node.parts, "array"):
            return []
        return [_joined([Condition(_array(node.parts)), _asked(node)], "AND")]

    def _either(self, conditions: list[Condition]) -> Condition:
        if not conditions:
            return Condition("0")
        if len(conditions) == 1:
            return conditions[0]
        return _joined([one._replace(sql=f"({one.sql})") for one in conditions], "OR")


def _joined(conditions: list[Condition], word: str) -> Condition:
    if not conditions:
        return Condition("1")
    if len(conditions) == 1:
        return conditions[0]
    sql = "(" + f" {word} ".join(condition.sql for condition in conditions) + ")"
    return Condition(sql, tuple(value for condition in conditions for value in condition.values))


def _asked(node: _Sourced) -> Condition:
    return Condition(_MATCHES, (node.source.text(node.parts),))


def _typed(parts: tuple[str, ...], value: Any, term: str, values: tuple[Any, ...]) -> Condition:
    """SQLite orders numbers before text and holds true for 1; JSON does not."""
    if isinstance(value, bool):
        kinds = f"= '{'true' if value else 'false'}'"
    else:
        kinds = "= 'text'" if isinstance(value, str) else "IN ('integer','real')"
    return Condition(f"({extract(parts)} {term} AND {kind(parts)} {kinds})", values)


def _ranged(parts: tuple[str, ...], name: str, value: Any) -> Condition:
    """Numbers, or texts, on one side of a value; the planner likes a range with two ends."""
    field, rising = extract(parts), name.startswith("$gt")
    if isinstance(value, str):
        other = f"{field} < x''" if rising else f"{field} >= ''"
        # arrays and objects, as their texts, are between these
        mixed, kinds = value < "|" if rising else value >= "[", "= 'text'"
    else:
        other = f"{field} < ''" if rising else f"{field} >= -1e999"
        # true is 1, and false 0
        mixed, kinds = value <= 1 if rising else value >= 0, "IN ('integer','real')"
    typed = f" AND {kind(parts)} {kinds}" if mixed else ""
    return Condition(f"({field} {COMPARE[name]} {mark(value)} AND {other}{typed})", (bound(value),))


def _begins(parts: tuple[str, ...], text: str) -> Condition:
    """That a text begins with another one."""
    end, field = end_of(text), extract(parts)
    if not end:
        return _typed(parts, text, ">= ?", (text,))
    return Condition(f"({field} >= ? AND {field} < ? AND {kind(parts)} = 'text')", (text, end))


def end_of(text: str) -> str:
    """The first text behind all that begin with one, which stand together; empty: there is none."""
    begun = text.rstrip("\U0010ffff")
    following = ord(begun[-1]) + 1 if begun else 0
    return begun[:-1] + chr(0xE000 if following == 0xD800 else following) if begun else ""


def mark(value: Any) -> str:
    """The SQL of a value that is bound as ``bound`` has it."""
    # not every SQLite reads the 17 digits of a double as Python does: it shall read them here as in documents
    return "json_extract(?,'$')" if isinstance(value, float) and math.isfinite(value) else "?"


def bound(value: Any) -> Any:
    """A value as it is bound."""
    return repr(value) if isinstance(value, float) and math.isfinite(value) else value


def is_ambiguous(value: Any) -> bool:
    """Whether SQLite may give the same for a value of another kind: true is 1, and an array is its text."""
    return value.startswith(("[", "{")) if isinstance(value, str) else value in (0, 1)


# several conditions of a filter are asked of one document after another
_document: Final = functools.lru_cache(maxsize=1)(json.loads)


def _matches(body: str, source: str) -> bool:
    return from_text(source).matches(_document(body))
