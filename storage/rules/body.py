"""The rule for a document body: a JSON object of RFC 8259, bounded, without NaN or repeated names."""

from __future__ import annotations

from typing import Any

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.messages.strict_json import read_object, refuse_escaped_names


def check_body(body: bytes) -> str:
    """The body as text, or InvalidError or TooLargeError."""
    text = _text(body, BODY_BYTES_MAX)
    read_object(text, "a document", DEPTH_MAX)
    refuse_escaped_names(text, "a document")
    return text


def check_object(body: bytes, bytes_max: int, depth_max: int) -> dict[str, Any]:
    """A JSON object with limits of its own, or InvalidError or TooLargeError."""
    return read_object(_text(body, bytes_max), "a document", depth_max)


def _text(body: bytes, bytes_max: int) -> str:
    if len(body) > bytes_max:
        raise TooLargeError(f"a document of {len(body)} bytes, {bytes_max} allowed")
    try:
        return body.decode("utf-8")
    except ValueError as fault:
        raise InvalidError(f"a document is no JSON: {fault!s:.120}") from None
