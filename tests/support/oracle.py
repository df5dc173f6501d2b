"""Filters and orders as docs/queries.md tells them, in plain Python, in its own way.

Nothing of it is imported from the code that it is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cmp_to_key
from typing import Any

ORDERED = ("$gt", "$gte", "$lt", "$lte")


class Nothing:
    """What a place has that lacks a field."""


def matches(document: Any, wanted: dict[str, Any], nocase: bool = False) -> bool:
    """Whether a document matches a filter."""
    for name, value in wanted.items():
        if name == "$and":
            good = all(matches(document, one, nocase) for one in value)
        elif name == "$or":
            good = any(matches(document, one, nocase) for one in value)
        elif name == "$nor":
            good = not any(matches(document, one, nocase) for one in value)
        else:
            good = meets(places(document, name), True, value, nocase)
        if not good:
            return False
    return True


def places(value: Any, path: str) -> list[Any]:
    """All values at a path."""
    name, _, rest = path.partition(".")
    if type(value) is dict:
        found = [value[name]] if name in value else [Nothing]
    elif type(value) is list:
        inside = [element for element in value if type(element) is dict]
        found = [value[at] for at in range(len(value)) if str(at) == name]
        return [
            *(one for element in inside for one in places(element, path)),
            *(one for element in found for one in (places(element, rest) if rest else [element])),
        ]
    else:
        found = [Nothing]
    return [one for value in found for one in places(value, rest)] if rest else found


def meets(values: list[Any], inner: bool, wanted: Any, nocase: bool) -> bool:
    """Whether values meet what is below their field; ``inner``: elements of arrays count, too."""
    if type(wanted) is not dict or not any(name.startswith("$") for name in wanted):
        wanted = {"$eq": wanted}
    single = [*values, *(element for one in values if inner and type(one) is list for element in one)]
    return all(operator(name, operand, values, single, inner, nocase) for name, operand in wanted.items())


def operator(
    name: str, operand: Any, values: list[Any], single: list[Any], inner: bool, nocase: bool
) -> bool:
    if name in ("$ne", "$nin", "$not"):
        return not meets(
            values, inner, {"$ne": {"$eq": operand}, "$nin": {"$in": operand}}.get(name, operand), nocase
        )
    if name == "$exists":
        return operand is any(one is not Nothing for one in values)
    if name == "$size":
        return any(type(one) is list and len(one) == operand for one in values)
    if name == "$all":
        return bool(operand) and all(operator("$in", [one], values, single, inner, nocase) for one in operand)
    if name == "$elemMatch":
        below = any(one.startswith("$") and one not in ("$and", "$or", "$nor") for one in operand)
        elements = [element for one in values if type(one) is list for element in one]
        if below:
            return any(meets([element], False, operand, nocase) for element in elements)
        return any(type(element) is dict and matches(element, operand, nocase) for element in elements)
    return any(test(name, operand, one, nocase) for one in single)


def test(name: str, operand: Any, value: Any, nocase: bool) -> bool:
    """Whether one value passes a test that elements of arrays may pass as well."""
    if name in ("$eq", "$in"):
        return any(equal(value, one, nocase) for one in ([operand] if name == "$eq" else operand))
    if name == "$type":
        return kind(value) in ([operand] if type(operand) is str else operand)
    if name in ORDERED:
        if kind(value) != kind(operand):
            return False
        sign = compare(value, operand, nocase)
        return {"$gt": sign > 0, "$gte": sign >= 0, "$lt": sign < 0, "$lte": sign <= 0}[name]
    if type(value) is not str:
        return False
    if name == "$regex":
        flags = re.ASCII | (re.IGNORECASE if nocase else 0)
        return re.search(operand.replace("$", r"\Z"), value, flags) is not None
    text, part = (value.casefold(), operand.casefold()) if nocase else (value, operand)
    return text[: len(part)] == part if name == "$startsWith" else text.find(part) >= 0


def kind(value: Any) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return "missing" if value is Nothing else names.get(type(value), "null")


def equal(one: Any, other: Any, nocase: bool) -> bool:
    if one is Nothing:
        return other is None
    if kind(one) != kind(other):
        return False
    if type(one) is list:
        return len(one) == len(other) and all(equal(*pair, nocase) for pair in zip(one, other, strict=True))
    if type(one) is dict:
        return one.keys() == other.keys() and all(equal(one[name], other[name], nocase) for name in one)
    return one.casefold() == other.casefold() if nocase and type(one) is str else bool(one == other)


def compare(one: Any, other: Any, nocase: bool = False) -> int:
    """The order of two values: -1, 0 or 1."""
    classes = {"missing": 0, "null": 0, "number": 1, "bool": 1, "string": 2, "array": 3, "object": 3}
    first, second = classes[kind(one)], classes[kind(other)]
    if first != second or first in (0, 3):
        return (first > second) - (first < second)
    if nocase and first == 2:
        one, other = one.casefold(), other.casefold()
    return (one > other) - (one < other)


def ordered(documents: dict[str, Any], sort: Sequence[str], nocase: bool = False) -> list[str]:
    """The keys of documents in an order."""

    def there(document: Any, path: str) -> Any:
        for name in path.split("."):
            if type(document) is list:
                return document
            document = document.get(name, Nothing) if type(document) is dict else Nothing
        return document

    def by(one: str, other: str) -> int:
        falling = False
        for name in sort:
            falling = name.startswith("-")
            path = name.lstrip("-")
            sign = compare(there(documents[one], path), there(documents[other], path), nocase)
            if sign:
                return -sign if falling else sign
        return ((one > other) - (one < other)) * (-1 if falling else 1)

    return sorted(documents, key=cmp_to_key(by))
