"""Cursors: the place after a document in an order, as a text that says all that is needed to go on there."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.storage.rules.filtering.parser import collate
from entgldb.storage.rules.filtering.values import at, order

CURSOR_CHARS_MAX: Final = 2 * 1024 * 1024
"""Characters of a cursor; it has the texts that were sorted by."""


class Cursor(NamedTuple):
    """The place of a document in an order."""

    sort: tuple[str, ...]
    """The fields, each as it was asked for."""
    collation: str | None
    places: tuple[tuple[int, Any], ...]
    """For each field, the place of the document's value among all values."""
    key: str


def names(sort: str | Sequence[str] | None) -> tuple[str, ...]:
    """The fields of an order. Raises InvalidError for what is none."""
    if isinstance(sort, str):
        return (sort,)
    if not isinstance(sort, Sequence | None) or not all(isinstance(one, str) for one in sort or ()):
        raise InvalidError(
            f"{sort!r:.60} is no order", hint='a field path, "-age" for descending, or a list of such texts'
        )
    return tuple(sort or ())


def make_cursor(sort: tuple[str, ...], collation: str | None, key: str, document: Any) -> str:
    """The cursor after a document. Raises TooLargeError."""
    by = collate(collation)
    places = [order(at(document, name.removeprefix("-").split(".")), by) for name in sort]
    text = json.dumps([sort, collation, places, key], ensure_ascii=False, separators=(",", ":"))
    made = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(made) > CURSOR_CHARS_MAX:
        raise TooLargeError(
            f"a cursor has at most CURSOR_CHARS_MAX = {CURSOR_CHARS_MAX} characters",
            hint="sort by shorter texts",
        )
    return made


def read_cursor(text: str, sort: tuple[str, ...], collation: str | None) -> Cursor:
    """The place that a cursor names in this very order. Raises InvalidError."""
    found = _parsed(text)
    if found is None:
        raise InvalidError(f"{text!r:.40} is no cursor", hint="use one that a find gave")
    if (found.sort, found.collation) != (sort, collation):
        raise InvalidError(
            "the cursor was given for another order",
            hint=f"here too, sort by {', '.join(found.sort) or 'the key'}, and use the same collation",
        )
    return found


def _parsed(text: str) -> Cursor | None:
    if not isinstance(text, str) or len(text) > CURSOR_CHARS_MAX:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        sort, collation, places, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        found = Cursor(tuple(sort), collation, tuple((kind, value) for kind, value in places), key)
        good = _is_text(key) and all(isinstance(name, str) for name in found.sort)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if good and len(places) == len(sort) and all(map(_is_place, found.places)) else None


def _is_place(place: tuple[Any, Any]) -> bool:
    kind, value = place
    if type(kind) is not int:
        return False
    if kind == 1:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return _is_text(value) if kind == 2 else kind in (0, 3) and value == 0


def _is_text(value: Any) -> bool:
    """Whether it is text that SQLite takes: half a surrogate pair is none."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
