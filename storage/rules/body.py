"""What a document body may be: a JSON object of RFC 8259, bounded, without NaN or repeated names."""

from __future__ import annotations

import json
import math
from typing import Any

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX


def check_body(body: bytes) -> str:
    """The body as text, or InvalidError or TooLargeError."""
    return _checked(body, BODY_BYTES_MAX, DEPTH_MAX)[0]


def check_object(body: bytes, bytes_max: int, depth_max: int) -> dict[str, Any]:
    """A JSON object with limits of its own, or InvalidError or TooLargeError."""
    return _checked(body, bytes_max, depth_max)[1]


def _checked(body: bytes, bytes_max: int, depth_max: int) -> tuple[str, dict[str, Any]]:
    if len(body) > bytes_max:
        raise TooLargeError(f"a document of {len(body)} bytes, {bytes_max} allowed")
    try:
        text = body.decode("utf-8")
        document = _DECODER.decode(text)
    except RecursionError:
        raise InvalidError(f"a document nested deeper than {depth_max}") from None
    except ValueError as fault:
        raise InvalidError(f"a document is no JSON: {fault!s:.120}") from None
    if type(document) is not dict:
        raise InvalidError(f"a document is a JSON object, not a {type(document).__name__}")
    # so few brackets cannot nest too deeply; most documents end here
    if text.count("{") + text.count("[") > depth_max and _depth(document) > depth_max:
        raise InvalidError(f"a document nested deeper than {depth_max}")
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(document)
    return text, document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return made


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.20} is beyond a double")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)


def _depth(value: Any) -> int:
    """Level by level, without recursion: what is too deep for that may stand in a document."""
    depth, level = 0, [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            for child in item.values() if type(item) is dict else item:
                if type(child) is dict or type(child) is list:
                    below.append(child)
        level = below
    return depth


def _refuse_lone_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidError("a document with half a surrogate pair is not Unicode text") from None
