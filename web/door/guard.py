"""The door: who may ask, from where, and how much. Plain ASGI, before any handler.

A server on loopback is reached by every page that the browser of this machine shows. So a request must name
this server as its host (a page whose site had its name changed to 127.0.0.1 does not). A browser that says
where a page is from must name this server, too (``Origin`` of the Fetch standard). There is no CORS.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from entgldb.client.upkeep.behalf import FOR
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, NotAllowedError
from entgldb.messages.secret import Secret
from entgldb.web.door.auditing import address
from entgldb.web.door.place import ANYWHERE
from entgldb.web.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from entgldb.web.door.auditing import Refusals
    from entgldb.web.door.tokens import Tokens

OPEN: Final = frozenset(("/healthz", "/readyz", "/"))
"""Cheap and without a secret: for machines that have no token, and a page that has none yet."""
OPEN_UNDER: Final = "/ui/static/"
"""The files of that page."""
READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))
DECIDING: Final = frozenset(("/v1/backup",))
"""It is read, and it is everything: for administrators."""
READING_POSTS: Final = re.compile(r"/v1/collections/[^/]*/_(find|count|distinct|aggregate|explain)")
"""The paths whose POST only reads; a key of a document may end like one."""


class Guard:
    """Lets requests in, or answers why not."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], tokens: Tokens | None, refusals: Refusals
    ) -> None:
        """``hosts``: names of this server, without port. ``tokens`` None: nobody needs one."""
        self._app, self._hosts, self._tokens = app, frozenset(hosts), tokens
        self._refusals = refusals
        # it is asked by any address of the machine: a number is no name that somebody could change
        self._anywhere = any(name.strip("[]") in ANYWHERE for name in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._judge(scope)
        except EntglError as fault:
            if fault.code is ErrorCode.TOKEN_REFUSED:
                self._refusals.note(scope, fault)
            await problem(fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _judge(self, scope: Scope) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        name = _name(host)
        if name not in self._hosts and not (self._anywhere and _is_number(name)):
            raise InvalidError(
                f"this server is not {host!r:.80}",
                hint="entgldb serve --name NAME, where it has another",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise NotAllowedError(f"pages of {origin!r:.80} may not ask this server")
        FOR.set(f"http {address(scope)}")
        if self._tokens is None or scope["path"] in OPEN or scope["path"].startswith(OPEN_UNDER):
            return
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise EntglError(
                "a bearer token is needed", code=ErrorCode.TOKEN_REFUSED, hint="entgldb http-token add NAME"
            )
        path, brought = scope["path"], Secret(token.strip())
        found = self._tokens.admit(brought, scope_of(scope["method"], path), _collection_of(path))
        # each request is a task of its own, with a context of its own
        FOR.set(f"http-token {found.name}")


def _name(host: str) -> str:
    """A host without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _is_number(name: str) -> bool:
    """Whether it is an address of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def scope_of(method: str, path: str) -> str:
    """Documents are read and written; of all else every reader may know, and administrators decide."""
    if path in DECIDING:
        return "admin"
    if method in READING or (method == "POST" and READING_POSTS.fullmatch(path)):
        return "read"
    return "write" if path.startswith("/v1/collections/") or path == "/v1/_batch" else "admin"


def _collection_of(path: str) -> str | None:
    """The one collection that a path is about, or None."""
    parts = path.split("/", 4)
    return parts[3] if parts[1:3] == ["v1", "collections"] and len(parts) > 3 else None
