"""The bodies of requests, read strictly and within bounds; and JSON that goes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, GROUP_BYTES_MAX
from entgldb.messages.model import whole_number
from entgldb.messages.schema import Json
from entgldb.messages.strict_json import read_json, read_object
from entgldb.web.problems import UnfitKindError

OBJECT_BYTES_MAX: Final = 2 * BODY_BYTES_MAX
"""The body of a request about one document: it may be written with escapes and blanks."""
MANY_BYTES_MAX: Final = 2 * GROUP_BYTES_MAX
"""The body of one about many."""
SKIP_MAX: Final = 10_000_000
"""Rows that a page may leave out before it begins."""


async def object_of(request: Request, what: str, bytes_max: int = OBJECT_BYTES_MAX) -> dict[str, Any]:
    """The body of a request, a JSON object. Raises InvalidError, UnfitKindError, TooLargeError."""
    return read_object(await text_of(request, what, bytes_max), what)


async def text_of(request: Request, what: str, bytes_max: int) -> str:
    """The body of a request as text.

    Raises UnfitKindError, InvalidError where it is no UTF-8, and TooLargeError as soon as it is too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.endswith(("/json", "+json", "/x-ndjson", "/jsonl")):
        # a page of another site can send text/plain without asking anybody
        raise UnfitKindError(f"{what} comes as {kind or 'no kind'}", hint="Content-Type: application/json")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > bytes_max:
            raise TooLargeError(f"{what} has more than {bytes_max} bytes", hint="send less at a time")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise InvalidError(f"{what} is no UTF-8: byte {fault.start + 1}") from None


def answer(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(text_of_json(body), status, headers, "application/json")


def text_of_json(body: Json) -> str:
    """JSON without blanks."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def number(request: Request, name: str, default: int | None, most: int) -> int | None:
    """A whole number from 0 in the query. Raises InvalidError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    found = whole_number(text, most)
    if found is None:
        raise InvalidError(f"{name}={text!r:.40} is no whole number from 0 to {most}")
    return found


def object_in_query(request: Request, name: str) -> dict[str, Any] | None:
    """A JSON object in the query, or None. Raises InvalidError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    value = read_json(text, name)
    if not isinstance(value, dict):
        raise InvalidError(f"{name} is no JSON object")
    return value
