"""Which arrays merge element by element: those whose elements all say who they are."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

_KINDS: Final = {str: "s", int: "i", float: "f"}
_READ: Final[dict[str, Callable[[str], str | int | float]]] = {"s": str, "i": int, "f": float}


def identities(array: Any) -> list[str] | None:
    """The items (``#s...``, ``#i...``, ``#f...``) of an array of objects, by ``id`` or else by ``_id``.

    None where it is no array or empty, an element is no object, or an identity is missing, occurs twice or
    is neither text nor a number: such an array is one value.
    """
    if type(array) is not list:
        return None
    for name in ("id", "_id"):
        found = _by(array, name)
        if found is not None:
            return found
    return None


def identity_of(item: str) -> str | int | float | None:
    """The identity of which ``identities`` makes an item; None for an item that it never makes."""
    try:
        value = _READ[item[1:2]](item[2:])
    except (KeyError, ValueError):
        return None
    return None if type(value) is float and not isfinite(value) else value


def _by(array: list[Any], name: str) -> list[str] | None:
    items = []
    for element in array:
        if type(element) is not dict:
            return None
        value = element.get(name)
        kind = _KINDS.get(type(value))
        if kind is None:
            return None
        items.append(f"#{kind}{value}")
    return items if items and len(set(items)) == len(items) else None
