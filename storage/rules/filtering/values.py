"""JSON values as filters see them: kinds, exact equality, one order, and what stands at a path."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Final

MISSING: Final = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
"""Stands where a document has nothing at a path."""
KINDS: Final = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
"""The types of JSON values in Python, by the names that ``$type`` has for them."""


def reached(value: Any, parts: Sequence[str]) -> Iterator[Any]:
    """All that stands at a path, MISSING for each place that lacks it.

    An array on the way is walked: each of its elements that is an object, and by its number the element that
    the path names. An array at the end is one value.
    """
    if not parts:
        yield value
    elif isinstance(value, dict):
        yield from reached(value.get(parts[0], MISSING), parts[1:]) if parts[0] in value else (MISSING,)
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from reached(element, parts)
        place = _place(parts[0], len(value))
        if place is not None:
            yield from reached(value[place], parts[1:])
    else:
        yield MISSING


def _place(part: str, length: int) -> int | None:
    """The element of an array that a part of a path names by its number."""
    if len(part) > len(str(length)) or not part.isdecimal() or not part.isascii() or part != str(int(part)):
        return None
    return int(part) if int(part) < length else None


def at(value: Any, parts: Sequence[str]) -> Any:
    """The one value at a path for orders and groups: the first array on the way stands for what is in it."""
    for part in parts:
        if isinstance(value, list):
            return value
        value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
    return value


def fold(text: str) -> str:
    """A text as the collation ``nocase`` compares it."""
    return text.casefold()


def exactly(text: str) -> str:
    """A text as it is compared without a collation: by code points."""
    return text


Collate = Callable[[str], str]
"""``fold`` or ``exactly``."""


def identity(value: Any, collate: Collate = exactly) -> Hashable:
    """Equal for equal JSON values alone: 1 is 1.0, true is not 1, and an object's names have no order."""
    if isinstance(value, str):
        return collate(value)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return ("array", tuple(identity(item, collate) for item in value))
    if isinstance(value, dict):
        return ("object", frozenset((name, identity(item, collate)) for name, item in value.items()))
    return None if value is MISSING else value


def order(value: Any, collate: Collate = exactly) -> tuple[int, Any]:
    """Sorts any JSON values: nothing and null, numbers with false as 0 and true as 1, text, then arrays and
    objects, which are all alike."""
    if isinstance(value, str):
        return (2, collate(value))
    if isinstance(value, (int, float)):
        return (1, int(value) if isinstance(value, bool) else value)
    return (3, 0) if isinstance(value, (list, dict)) else (0, 0)
