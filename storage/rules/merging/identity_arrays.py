"""Which arrays merge element by element: those whose elements all say who they are."""

from __future__ import annotations

from typing import Any, Final

_KINDS: Final = {str: "s", int: "i", float: "f"}


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
