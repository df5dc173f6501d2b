"""Errors as problem details (RFC 9457), with our codes and hints beside the standard members."""

from __future__ import annotations

import http
import json
import logging
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from entgldb.client.conflicts import version_text
from entgldb.client.spread import SpreadError
from entgldb.client.upkeep.tracing import CALL
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError

_log: Final = logging.getLogger("uvicorn.error")
MEDIA_TYPE: Final = "application/problem+json"
STATUS: Final = {
    ErrorCode.INVALID: 400,
    ErrorCode.UNSUPPORTED: 400,
    ErrorCode.CONFIG: 400,
    # a value that the node cannot read, although it is of its type
    ErrorCode.PROTOCOL: 400,
    ErrorCode.TOKEN_REFUSED: 401,
    ErrorCode.NOT_ALLOWED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.EXISTS: 409,
    ErrorCode.UNKNOWN_OUTCOME: 409,
    ErrorCode.IN_USE: 409,
    ErrorCode.TOKEN_EXPIRED: 410,
    ErrorCode.VERSION_MISMATCH: 412,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.SECRET: 422,
    ErrorCode.NO_NODE: 503,
    ErrorCode.BUSY: 503,
    ErrorCode.CLOCK: 503,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.NOT_SPREAD: 504,
    ErrorCode.DISK_FULL: 507,
}
"""Code -> status; any other is 500."""
RETRY_SECONDS: Final = 1
"""Told with 503: the node, or a place in it, may be back by then."""


class UnfitKindError(InvalidError):
    """The body of a request is of a kind that is not read here (RFC 9110, section 15.5.16)."""


def problem(fault: EntglError, status: int | None = None) -> Response:
    """The answer that tells of an error."""
    status = STATUS.get(fault.code, 500) if status is None else status
    body = {
        "type": f"urn:entgldb:{fault.code.value}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": fault.text,
        "code": fault.code.value,
        "hint": fault.hint,
        "definite": fault.definite,
        **_made(fault),
    }
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(body, ensure_ascii=False), status, headers, MEDIA_TYPE)


def _made(fault: EntglError) -> dict[str, Any]:
    """Facts for a program: what was made all the same, and who has it on a disk by now."""
    told: dict[str, Any] = {name: getattr(fault, name) for name in ("key", "stored") if getattr(fault, name)}
    if isinstance(fault, SpreadError):
        told |= {
            "versions": [version_text(version) for version in fault.versions],
            "durable": fault.spread.durable,
            "missing": fault.spread.missing,
        }
    return told


async def of_ours(request: Request, fault: Exception) -> Response:
    """Starlette calls it for an ``EntglError`` that a handler raised."""
    assert isinstance(fault, EntglError), "it is registered for these alone"
    status = 415 if isinstance(fault, UnfitKindError) else None
    if fault.code is ErrorCode.EXISTS and "if-none-match" in request.headers:
        status = 412
    return problem(fault, status)


async def of_http(request: Request, fault: Exception) -> Response:
    """Starlette calls it where no route fits, or none with this method."""
    assert isinstance(fault, HTTPException), "it is registered for these alone"
    code = ErrorCode.NOT_FOUND if fault.status_code == 404 else ErrorCode.INVALID
    hint = "GET /v1/openapi.json, which has every path and method"
    error = EntglError(f"{request.method} {request.url.path}: {fault.detail}", code=code, hint=hint)
    made = problem(error, fault.status_code)
    made.headers.update(fault.headers or {})
    return made


async def of_bug(request: Request, fault: Exception) -> Response:
    """Starlette calls it for any other exception, and has that one logged, below this line."""
    _log.error("request %r failed:", CALL.get())
    return problem(EntglError(f"the server failed on {request.method} {request.url.path}; its log tells why"))
