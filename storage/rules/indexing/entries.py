"""The entries that a document has in an index, where SQL alone cannot tell them.

A document has one entry that stands for it whole: of each field the value as SQLite orders it, ``[`` for an
array or what lies behind one, ``{`` for an object. Where a field has an array, it has one more for each value
that a filter would find there; of several such fields, for each combination. One more says that the index
alone cannot order the document. So an index whose entries are all WHOLE tells all there is to know.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

from entgldb.messages.limits import INDEX_ENTRIES_MAX
from entgldb.storage.rules.filtering.nodes import Node
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.rules.filtering.values import MISSING, at, reached

WHOLE: Final = 0
"""The number of the entry that stands for the document."""
UNCOUNTED: Final = -1
"""The number of an entry that says: there would be more than INDEX_ENTRIES_MAX, look at the document."""
ODD: Final = -2
"""The number of an entry that says: a field has an object, or a number that SQLite knows as a double only."""
LARGE: Final = 2**63
"""The least number that fits no 64 bits."""


class _Letter(str):
    """The mark of an array or object in an entry: it stands among texts, and no filter takes it for one."""

    __slots__ = ()


_ARRAY, _OBJECT = _Letter("["), _Letter("{")


class _Plan(NamedTuple):
    """A definition as ``entries`` needs it."""

    fields: tuple[tuple[str, ...], ...]
    unique: bool
    where: Node | None


@functools.lru_cache(maxsize=256)
def _plan(text: str) -> _Plan:
    fields, unique, where = json.loads(text)
    return _Plan(tuple(map(tuple, fields)), unique, parse_filter(json.loads(where)) if where else None)


def plan_of(fields: Sequence[Sequence[str]], *, unique: bool, where: str) -> str:
    """The first argument of ``entries_in_json``."""
    return json.dumps([[list(parts) for parts in fields], unique, where], ensure_ascii=False)


def entries_in_json(plan: str, body: str) -> str:
    """SQL's way to ``entries``: rows of number, unique value (or null), and a value for each field."""
    return json.dumps(list(_entries(_plan(plan), json.loads(body))), ensure_ascii=False)


def _entries(plan: _Plan, document: Any) -> Iterator[list[Any]]:
    if plan.where is not None and not plan.where.matches(document):
        return
    whole = [_flat(at(document, parts)) for parts in plan.fields]
    yield [WHOLE, _distinct(whole) if plan.unique else None, *whole]
    if any(one is _OBJECT or is_large(one) for one in whole):
        yield [ODD, None, *whole]
    if not any(one is _ARRAY for one in whole):
        return
    choices = [
        (_scalars(list(reached(document, parts))) if one is _ARRAY else []) or [one]
        for parts, one in zip(plan.fields, whole, strict=True)
    ]
    count = 1
    for values in choices:
        count *= len(values)
    if count > INDEX_ENTRIES_MAX:
        yield [UNCOUNTED, None, *whole]
        return
    for number, chosen in enumerate(product(*choices), 1):
        yield [number, _distinct(chosen) if plan.unique else None, *chosen]


def _scalars(values: Sequence[Any]) -> list[Any]:
    """The values that a filter finds at a path: those there, and the elements of arrays; each once."""
    found: dict[tuple[bool, Any], Any] = {}
    for value in values:
        for one in value if isinstance(value, list) else (value,):
            if not isinstance(one, (list, dict)):
                flat = _flat(one)
                # SQLite, too, takes 1 and 1.0 for one value
                found[isinstance(flat, bool), flat] = flat
    return list(found.values())


def is_large(value: Any) -> bool:
    """Whether it is a number beyond 64 bits, which SQLite knows as a double."""
    return isinstance(value, (int, float)) and not -LARGE < value < LARGE


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return _ARRAY
    if isinstance(value, dict):
        return _OBJECT
    return None if value is MISSING else value


def _distinct(values: Sequence[Any]) -> str | None:
    """The text that no two documents may share; None where a field has nothing that can be compared."""
    if any(one is None or isinstance(one, _Letter) for one in values):
        return None
    exact = [int(one) if isinstance(one, float) and one.is_integer() else one for one in values]
    return json.dumps(exact, ensure_ascii=False)
