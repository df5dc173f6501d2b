"""What a document body may be: a JSON object of RFC 8259, bounded, without NaN or repeated names."""

from __future__ import annotations

import json
import math
from typing import Any

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX


def check_body(body: bytes) -> str:
    """The body as text, or InvalidError or TooLargeError."""
    if len(body) > BODY_BYTES_MAX:
        raise TooLargeError(f"a document of {len(body)} bytes, {BODY_BYTES_MAX} allowed")
    try:
        text = body.decode("utf-8")
        document = _DECODER.decode(text)
    except RecursionError:
        raise InvalidError(f"a document nested deeper than {DEPTH_MAX}") from None
    except ValueError as fault:
        raise InvalidError(f"a document is no JSON: {fault!s:.120}") from None
    if type(document) is not dict:
        raise InvalidError(f"a document is a JSON object, not a {type(document).__name__}")
    # so few brackets cannot nest too deeply; most documents end here
    if text.count("{") + text.count("[") > DEPTH_MAX and _depth(document) > DEPTH_MAX:
        raise InvalidError(f"a document nested deeper than {DEPTH_MAX}")
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(document)
    return text


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
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if type(item) is dict:
            waiting.extend((child, depth + 1) for child in item.values())
        elif type(item) is list:
            waiting.extend((child, depth + 1) for child in item)
        else:
            continue
        deepest = max(deepest, depth)
    return deepest


def _refuse_lone_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidError("a document with half a surrogate pair is not Unicode text") from None
