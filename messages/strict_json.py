"""The one strict reader of JSON text: of arguments, imports, configurations, and of what the store takes in.

RFC 8259 leaves open what a doubled name, half a surrogate pair or a number beyond a double means. This
reader refuses such a text with an error that names the place; nothing of the text is stored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DEPTH_MAX

_PLACE_CHARS_MAX: Final = 80
_CONTAINERS: Final = (dict, list, tuple)
_KINDS: Final = {
    list: "an array",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
_JSON: Final = (dict, list, tuple, str, int, float, type(None))
_NAMES: Final = {str}
_AS_JSON: Final = {
    "datetime": "store value.isoformat()",
    "date": "store value.isoformat()",
    "time": "store value.isoformat()",
    "timedelta": "store value.total_seconds()",
    "Decimal": "store str(value), or float(value)",
    "UUID": "store str(value)",
    "bytes": "store base64.b64encode(value).decode()",
    "set": "store a list, such as sorted(value)",
    "frozenset": "store a list, such as sorted(value)",
    "ndarray": "store value.tolist()",
}
"""How a program stores values of other types, by the name of the type."""
_LOOKED_AT_MAX: Final = 100_000
"""Values that are looked at for one which is no JSON."""
_SUSPECT_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_HALF: Final = re.compile("[\ud800-\udfff]")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?', re.DOTALL)


class _DoubledError(ValueError):
    """A name occurs twice in one object; where, is looked for only then."""


class _Doubled(dict[str, Any]):
    """An object in which ``name`` occurs twice."""

    name: str


def read_json(text: str, what: str, depth_max: int = DEPTH_MAX) -> Any:
    """The value of a JSON text. Raises InvalidError that says what is wrong with ``what``, and where."""
    try:
        # decode also looks for what may stand around it; nearly always it is nothing
        value, end = _DECODER.raw_decode(text) if text[:1] == "{" else (None, -1)
        if end != len(text):
            value = _DECODER.decode(text)
    except _DoubledError:
        raise InvalidError(f"{what} has the name {_doubled_in(text)} twice in one object") from None
    except RecursionError:
        raise InvalidError(f"{what} is nested deeper than {depth_max}") from None
    except ValueError as fault:
        raise InvalidError(f"{what} is no JSON: {fault!s:.120}") from None
    check_value(value, text, what, depth_max)
    return value


def read_object(text: str, what: str, depth_max: int = DEPTH_MAX) -> dict[str, Any]:
    """A JSON text that is an object. Raises InvalidError as ``read_json``."""
    value = read_json(text, what, depth_max)
    if type(value) is not dict:
        raise InvalidError(f"{what} is not a JSON object but {_KINDS[type(value)]}")
    return value


def check_value(value: Any, text: str, what: str, depth_max: int = DEPTH_MAX) -> None:
    """Refuse nesting beyond ``depth_max``, NUL and half surrogate pairs; ``text`` is ``value`` as JSON.

    Raises InvalidError with the place.
    """
    # so few brackets cannot nest too deeply; most documents end here
    if text.count("{") + text.count("[") > depth_max and _depth(value) > depth_max:
        raise InvalidError(f"{what} is nested deeper than {depth_max}")
    if _may_be_no_text(text):
        _refuse_half_text(value, what)


def check_names(value: Any, what: str) -> None:
    """Refuse names that are no texts, which ``json`` would make texts of. Raises InvalidError with the place.

    ``value`` has been made a text: it has an end.
    """
    if _has_texts_as_names(value):
        return
    for place, item in _walk(value):
        for name in item if isinstance(item, dict) else ():
            if not isinstance(name, str):
                raise InvalidError(
                    f"{what} has the name {name!r:.40}, of type {type(name).__name__}, in {place or 'it'}",
                    hint="names are texts: str(name)",
                )


def _has_texts_as_names(value: Any) -> bool:
    containers = [value]
    for one in containers:
        below = one
        if isinstance(one, dict):
            if not _NAMES.issuperset(map(type, one)):
                return False
            below = one.values()
        containers += [child for child in below if isinstance(child, _CONTAINERS)]
    return True


def no_json(value: Any, what: str, fault: Exception) -> InvalidError:
    """The error for a value of which ``json`` makes no text, with the first place that is to blame."""
    if isinstance(fault, RecursionError):
        return InvalidError(f"{what} is nested deeper than {DEPTH_MAX}")
    # what holds itself has no end
    for place, item in islice(_walk(value), _LOOKED_AT_MAX):
        if isinstance(item, float) and not math.isfinite(item):
            return InvalidError(f"{what} has {item} in {place}, which is no JSON number", hint="store None")
        if not isinstance(item, _JSON):
            kind = type(item).__name__
            hint = _AS_JSON.get(kind, "store texts, numbers, True, False, None, lists and dicts of them")
            return InvalidError(
                f"{what} has a value of type {kind} in {place}, which JSON has not", hint=hint
            )
    return InvalidError(f"{what} is no JSON: {fault}")


def _may_be_no_text(text: str) -> bool:
    """Whether a NUL or half a surrogate pair may be in JSON; nearly no text is looked at letter by letter."""
    if "\x00" in text or ("\\" in text and "\\u" in text and _SUSPECT_ESCAPE.search(text)):
        return True
    try:
        # this fails at half a surrogate pair, and is ten times as fast as a search for one
        return not text.isascii() and not text.encode()
    except UnicodeEncodeError:
        return True


def refuse_escaped_names(text: str, what: str) -> None:
    """Refuse names written with escapes that they do not need: SQLite finds a name by its letters only.

    ``text`` is JSON. Raises InvalidError.
    """
    if "\\u" not in text and "\\/" not in text:
        return
    for found in _STRING.finditer(text):
        if found[1] is not None and "\\" in found[0]:
            written = found[0][: len(found[0]) - len(found[1])]
            plain = json.dumps(json.loads(written), ensure_ascii=False)
            if plain.lower() != written.lower():
                raise InvalidError(f"{what} has the name {written:.80}: write it as {plain:.80}")


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.20} is beyond a double")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _DoubledError
    return made


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = _Doubled(pairs)
    names = [name for name, _ in pairs]
    if len(made) == len(names):
        return dict(made)
    made.name = next(name for name in names if names.count(name) > 1)
    return made


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every value with its place, without recursion: a document may hold values too deep for that."""
    waiting = [("", value)]
    while waiting:
        place, item = waiting.pop()
        yield place, item
        if isinstance(item, dict):
            dot = "." if place else ""
            waiting += [(f"{place[:_PLACE_CHARS_MAX]}{dot}{name}", child) for name, child in item.items()]
        elif isinstance(item, (list, tuple)):
            waiting += [(f"{place[:_PLACE_CHARS_MAX]}[{n}]", child) for n, child in enumerate(item)]


def _doubled_in(text: str) -> str:
    """The place of the first object in which a name occurs twice."""
    try:
        value = json.loads(text, object_pairs_hook=_marked)
    except (ValueError, RecursionError):
        return "of a field"  # there is a second fault behind the first
    place, item = next((place, item) for place, item in _walk(value) if isinstance(item, _Doubled))
    return f"{place}.{item.name}"[: 2 * _PLACE_CHARS_MAX] if place else item.name[:_PLACE_CHARS_MAX]


def _refuse_half_text(value: Any, what: str) -> None:
    for place, item in _walk(value):
        at = place or "it"
        for text in item if isinstance(item, dict) else (item,):
            if isinstance(text, str):
                if "\x00" in text:
                    raise InvalidError(f"{what} has a NUL character in {at}", hint="leave it out")
                if _HALF.search(text):
                    raise InvalidError(f"{what} has half a surrogate pair in {at}, which is no Unicode text")


def _depth(value: Any) -> int:
    depth, level = 0, [value] if isinstance(value, _CONTAINERS) else []
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            for child in item.values() if isinstance(item, dict) else item:
                if isinstance(child, _CONTAINERS):
                    below.append(child)
        level = below
    return depth
