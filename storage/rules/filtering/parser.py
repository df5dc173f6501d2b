"""From a filter, a mapping as JSON has it, to its nodes; the rest is refused by name."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from entgldb.messages.errors import InvalidError, TooLargeError, UnsupportedError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.storage.rules.field_path import parse_path
from entgldb.storage.rules.filtering.nodes import (
    COMPARISONS,
    Compared,
    Elements,
    Equal,
    Every,
    Exists,
    Field,
    Kinds,
    No,
    Node,
    Part,
    Pattern,
    Size,
    Some,
    Source,
    Test,
)
from entgldb.storage.rules.filtering.regex import compiled
from entgldb.storage.rules.filtering.values import KINDS, Collate, exactly, fold, identity

CONDITIONS_MAX: Final = 200
"""Operators of one filter, all told."""
IN_VALUES_MAX: Final = 1000
"""Values of one ``$in``, ``$nin`` or ``$all``."""
FILTER_CHARS_MAX: Final = 1024 * 1024
"""Characters of all values of one filter, as JSON."""
FILTER_DEPTH_MAX: Final = DEPTH_MAX
"""Filters within filters, and values within a value."""
COLLATIONS: Final[Mapping[str | None, Collate]] = {None: exactly, "nocase": fold}
"""The values of ``collation``."""
_AROUND: Final = ("$and", "$or", "$nor")
_KIND_NAMES: Final = tuple(dict.fromkeys(KINDS.values()))


def parse_filter(wanted: Mapping[str, Any] | None, collation: str | None = None) -> Node:
    """The nodes of a filter. None matches every document, as ``{}`` does.

    Raises UnsupportedError for an operator that there is not, with the nearest that there is; InvalidError
    for a bad value or name, TooLargeError where a limit is crossed. ``collation``: ``nocase`` or None.
    """
    return _Parser(collate(collation), collation).document({} if wanted is None else wanted, 0)


def collate(collation: str | None) -> Collate:
    """How a collation compares texts. Raises UnsupportedError."""
    if collation not in COLLATIONS:
        raise UnsupportedError(
            f"the collation {collation!r:.40} is not supported", hint='use collation="nocase", or none'
        )
    return COLLATIONS[collation]


def near(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is nearest to another one, and at all of them."""
    # difflib is needed by whoever mistyped, and by nobody else
    from difflib import get_close_matches

    known = list(known)
    found = get_close_matches(name, known, 1, 0.4)
    return (f"{found[0]}, or another of " if found else "one of ") + " ".join(known)


class _Parser:
    """Parses one filter and counts what is in it."""

    def __init__(self, collate: Collate, collation: str | None) -> None:
        self._collate = collate
        self._collation = collation
        self._conditions = 0
        self._chars = 0

    def document(self, wanted: Any, depth: int) -> Node:
        """A filter of documents, or of objects in an array."""
        if not isinstance(wanted, Mapping):
            raise InvalidError(f"a filter is an object, not a {type(wanted).__name__}")
        _refuse_depth(depth)
        nodes: list[Node] = []
        for name, value in wanted.items():
            if name in _AROUND:
                nodes.append(self._several(name, value, depth))
            elif isinstance(name, str) and name.startswith("$"):
                raise _unknown(
                    name, _AROUND, f'{name} stands below a field, as in {{"age": {{"{name}": ...}}}}'
                )
            else:
                nodes += self._field(parse_path(name), value, depth)
        return _every(nodes)

    def _several(self, name: str, value: Any, depth: int) -> Node:
        if not isinstance(value, (list, tuple)) or not value:
            raise InvalidError(f"{name} takes a list of at least one filter")
        self._count()
        found = tuple(self.document(item, depth + 1) for item in value)
        if name == "$and":
            return Every(found)
        return Some(found) if name == "$or" else No(Some(found))

    def _field(self, parts: tuple[str, ...], value: Any, depth: int) -> list[Node]:
        """The conditions on what stands at a path."""
        if isinstance(value, Mapping) and any(isinstance(name, str) and name[:1] == "$" for name in value):
            return self.operators(parts, value, depth)
        self._count()
        return [self._equal(parts, "$eq", value)]

    def operators(self, parts: tuple[str, ...], wanted: Any, depth: int) -> list[Node]:
        """An object of operators, each a condition."""
        if not isinstance(wanted, Mapping) or not wanted:
            raise InvalidError("an operator takes an object of at least one operator here")
        _refuse_depth(depth)
        nodes = []
        for name, operand in wanted.items():
            self._count()
            operator = _OPERATORS.get(name)
            if operator is None:
                raise _unknown(str(name), _OPERATORS, f"{name} stands around fields, not below one")
            nodes.append(operator(self, parts, name, operand, depth))
        return nodes

    def _equal(self, parts: tuple[str, ...], name: str, operand: Any, depth: int = 0) -> Node:
        return self._any_of(parts, name, [self._value(operand)])

    def _unequal(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        return No(self._equal(parts, "$eq", operand))

    def _in(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        return self._any_of(parts, "$in", self._values(name, operand))

    def _not_in(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        return No(self._any_of(parts, "$in", self._values(name, operand)))

    def _all(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        values = self._values(name, operand)
        nodes = tuple(self._any_of(parts, "$eq", [value]) for value in values)
        return Every(nodes) if nodes else Some(())

    def _any_of(self, parts: tuple[str, ...], name: str, values: list[Any]) -> Field:
        identities = frozenset(identity(value, self._collate) for value in values)
        test = Equal(tuple(values), identities, self._collate)
        return self._test(parts, name, values if name == "$in" else values[0], test)

    def _compared(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        value = self._value(operand)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise UnsupportedError(
                f"{name} with {_shown(operand)} is not supported", hint="numbers and text have an order"
            )
        return self._test(parts, name, value, Compared(name, value, self._collate))

    def _exists(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        if not isinstance(operand, bool):
            raise InvalidError(f"{name} takes true or false, not {_shown(operand)}")
        node = Exists(parts, Source(name, True, self._collation))
        return node if operand else No(node)

    def _type(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        names = [operand] if isinstance(operand, str) else operand
        if not isinstance(names, (list, tuple)) or not names:
            raise InvalidError(f"{name} takes one of {' '.join(_KIND_NAMES)}, or a list of them")
        for one in names:
            if one not in _KIND_NAMES:
                raise InvalidError(f"{name} knows no {_shown(one)}", hint=near(str(one), _KIND_NAMES))
        return self._test(parts, name, list(names), Kinds(frozenset(names)))

    def _size(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        if isinstance(operand, bool) or not isinstance(operand, int) or not 0 <= operand < 2**63:
            raise InvalidError(f"{name} takes a whole number from 0, not {_shown(operand)}")
        return Size(parts, operand, Source(name, operand, self._collation))

    def _part(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        if not isinstance(operand, str):
            hint = "an array that has a value is found by the value alone: {PATH: VALUE}"
            raise InvalidError(f"{name} takes a text, not {_shown(operand)}", hint=hint)
        text = self._value(operand)
        return self._test(parts, name, text, Part(text, name == "$startsWith", self._collate))

    def _regex(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        if not isinstance(operand, str):
            raise InvalidError(f"{name} takes a text, not {_shown(operand)}")
        pattern = self._value(operand)
        return self._test(parts, name, pattern, Pattern(compiled(pattern, self._collate is fold)))

    def _not(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        return No(_every(self.operators(parts, operand, depth + 1)))

    def _elem_match(self, parts: tuple[str, ...], name: str, operand: Any, depth: int) -> Node:
        if not isinstance(operand, Mapping):
            raise InvalidError(f"{name} takes a filter, or an object of operators")
        objects = not any(isinstance(one, str) and one[:1] == "$" and one not in _AROUND for one in operand)
        if objects:
            node = self.document(operand, depth + 1)
        else:
            node = _every(self.operators((), operand, depth + 1))
        return Elements(parts, node, objects, Source(name, plain(operand), self._collation))

    def _test(self, parts: tuple[str, ...], name: str, operand: Any, test: Test) -> Field:
        return Field(parts, test, Source(name, operand, self._collation))

    def _values(self, name: str, operand: Any) -> list[Any]:
        if not isinstance(operand, (list, tuple)):
            raise InvalidError(f"{name} takes a list of at most {IN_VALUES_MAX} values")
        if len(operand) > IN_VALUES_MAX:
            raise TooLargeError(f"{name} takes at most IN_VALUES_MAX = {IN_VALUES_MAX} values")
        return [self._value(value) for value in operand]

    def _value(self, value: Any) -> Any:
        made = plain(value)
        if isinstance(made, (list, dict)):
            self._chars += len(json.dumps(made, ensure_ascii=False))
        else:
            # a number has fewer digits than bits
            self._chars += (
                len(made) if isinstance(made, str) else made.bit_length() if isinstance(made, int) else 24
            )
        if self._chars > FILTER_CHARS_MAX:
            raise TooLargeError(
                f"the values of a filter have at most FILTER_CHARS_MAX = {FILTER_CHARS_MAX} characters"
            )
        return made

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > CONDITIONS_MAX:
            raise TooLargeError(f"a filter has at most CONDITIONS_MAX = {CONDITIONS_MAX} conditions")


_OPERATORS: Final[Mapping[str, Callable[[_Parser, tuple[str, ...], str, Any, int], Node]]] = {
    "$eq": _Parser._equal,
    "$ne": _Parser._unequal,
    **dict.fromkeys(COMPARISONS, _Parser._compared),
    "$in": _Parser._in,
    "$nin": _Parser._not_in,
    "$exists": _Parser._exists,
    "$type": _Parser._type,
    "$not": _Parser._not,
    "$all": _Parser._all,
    "$elemMatch": _Parser._elem_match,
    "$size": _Parser._size,
    "$contains": _Parser._part,
    "$startsWith": _Parser._part,
    "$regex": _Parser._regex,
}


def plain(value: Any, depth: int = 0) -> Any:
    """A value of a filter as JSON has it, its own copy. Raises InvalidError for what is none."""
    _refuse_depth(depth)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidError("a filter value is not valid Unicode text") from None
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        try:
            str(value)
        except ValueError:
            raise UnsupportedError(
                "a whole number of more than 4,300 digits is not supported in a filter"
            ) from None
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidError("a filter value is not a finite number")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise InvalidError("an object in a filter has a name that is no text")
        return {plain(name): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    raise UnsupportedError(
        f"a filter with a {type(value).__name__} is not supported", hint="use the values that JSON has"
    )


def _every(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Every(tuple(nodes))


def _refuse_depth(depth: int) -> None:
    if depth > FILTER_DEPTH_MAX:
        raise InvalidError(f"a filter nested deeper than FILTER_DEPTH_MAX = {FILTER_DEPTH_MAX}")


def _shown(value: Any) -> str:
    return f"{value!r:.40}"


def _unknown(name: str, known: Iterable[str], misplaced: str) -> UnsupportedError:
    """The error of an operator that is not known where it stands."""
    if name in _OPERATORS or name in _AROUND:
        return UnsupportedError(f"a filter with {name} in this place is not supported", hint=misplaced)
    return UnsupportedError(f"a filter with {name:.40} is not supported", hint=near(name, known))


@functools.lru_cache(maxsize=32)
def from_text(source: str) -> Node:
    """The node of a ``source``."""
    wanted, collation = json.loads(source)
    return parse_filter(wanted, collation)
