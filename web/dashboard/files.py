"""The page's own files, which need no token: read and made smaller once, so that the page paints at once."""

from __future__ import annotations

import functools
import gzip
import mimetypes
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from entgldb.messages.errors import NotFoundError
from entgldb.web.dashboard.rendering import HEADERS

STATIC: Final = Path(__file__).parent / "static"
_HEADERS: Final = {
    **HEADERS,
    # the addresses hold the version, so a browser may keep them
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
}


class _File(NamedTuple):
    kind: str
    data: bytes
    small: bytes


async def file(request: Request) -> Response:
    """One of them. Files alone are made smaller: an answer with a secret and a foreign text would tell its
    secret."""
    found = _files().get(request.path_params["name"])
    if found is None:
        raise NotFoundError("the page has no such file", hint="GET /")
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.small, 200, {**_HEADERS, "Content-Encoding": "gzip"}, found.kind)
    return Response(found.data, 200, _HEADERS, found.kind)


@functools.cache
def _files() -> dict[str, _File]:
    """Path below ``static`` -> the file."""
    made = {}
    for path in STATIC.rglob("*.*"):
        data, kind = path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain"
        made[path.relative_to(STATIC).as_posix()] = _File(kind, data, gzip.compress(data, mtime=0))
    return made
