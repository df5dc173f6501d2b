"""The few bytes of HTTP we need towards an authorization server: one bounded request, no redirects.

The transport is asyncio's, so that a timeout or the end of the node cancels a request without leaving a
thread behind; the answer is parsed by the standard library's ``http.client``. No proxy variables are read
and no redirect is followed: an impostor of an authority cannot send our secret elsewhere.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, Reason
from entgldb.messages.limits import HTTP_BODY_BYTES_MAX
from entgldb.messages.remote_peers import check_authority

CONNECT_SECONDS_MAX = 3.0
"""Name resolution, TCP and TLS together."""
TOTAL_SECONDS_MAX = 10.0
"""One request, from its first to its last byte."""
HEAD_BYTES_MAX = 16 * 1024
"""Status line and headers of an answer."""
RETRY_AFTER_SECONDS_MAX = 3600.0
"""The longest wait a server may ask of us."""


class AuthorityError(EntglError):
    """An authorization server did not do what was asked; ``reason`` says whose fault it is."""

    code = ErrorCode.TOKEN_REFUSED

    def __init__(self, text: str, reason: Reason = Reason.AUTHORITY_ERROR, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds the server asked us to wait; 0 when it did not say."""
        self.by_client = False
        """Whether it did not take the client for itself (RFC 6749, 5.2: invalid_client, or status 401)."""


class Answer(NamedTuple):
    """A whole answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def retry_after(self) -> float:
        """Seconds from the Retry-After header (RFC 9110, 10.2.3), bounded; 0 without a usable one."""
        given = self.headers.get("retry-after", "").strip()
        try:
            seconds = float(given) if given.isdigit() else parsedate_to_datetime(given).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
        return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


@asynccontextmanager
async def answered_in_time(name: str, seconds: float = TOTAL_SECONDS_MAX) -> AsyncIterator[None]:
    """Raises AuthorityError ``authority-unreachable`` when the time is over."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise AuthorityError(f"{name} did not answer in time", Reason.AUTHORITY_UNREACHABLE) from None


async def request(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    ca_pem: str = "",
    total_seconds: float = TOTAL_SECONDS_MAX,
) -> Answer:
    """GET ``url``, or POST ``body`` to it.

    ``ca_pem`` replaces the system's certificate authorities. Raises AuthorityError:
    ``authority-unreachable`` when no answer came in time, ``authority-error`` when the URL is neither https
    nor loopback, or when the answer was truncated, too large or no HTTP.
    Its text names the host, never more.
    """
    place = _place(url)
    try:
        async with answered_in_time(place, total_seconds):
            reader, writer = await _connect(url, ca_pem)
            try:
                writer.write(_head(url, body, headers or {}) + (body or b""))
                raw = await _receive(reader, place)
            finally:
                writer.transport.abort()  # all is said; a polite TLS farewell may hang
    except ssl.SSLError as fault:
        why = getattr(fault, "verify_message", "") or fault.reason or "TLS failed"
        raise AuthorityError(f"{place} is not trusted: {why}", Reason.AUTHORITY_UNREACHABLE) from None
    except (OSError, UnicodeError) as fault:
        why = getattr(fault, "strerror", "") or type(fault).__name__
        raise AuthorityError(f"{place} cannot be reached: {why}", Reason.AUTHORITY_UNREACHABLE) from None
    return _parse(raw, place)


def context(ca_pem: str) -> ssl.SSLContext:
    """Ordinary server verification, against ``ca_pem`` or the system's authorities."""
    try:
        made = ssl.create_default_context(cadata=ca_pem or None)
    except ssl.SSLError:
        raise AuthorityError("caPem holds no PEM certificate") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def is_authority(url: str) -> bool:
    """Whether we may send anything to ``url``: https, or http on loopback, and a plain host and port."""
    try:
        check_authority(url)
        where = urlsplit(url)
        return "@" not in where.netloc and where.port != 0
    except (InvalidError, ValueError):
        return False


def _place(url: str) -> str:
    """The ``host:port`` of a URL we may ask."""
    if not is_authority(url):
        raise AuthorityError("an authorization server needs an https URL, or http on loopback")
    return urlsplit(url).netloc


async def _connect(url: str, ca_pem: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(url)
    secure = where.scheme == "https"
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        return await asyncio.open_connection(
            where.hostname, where.port or (443 if secure else 80), ssl=context(ca_pem) if secure else None
        )


def _head(url: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    where = urlsplit(url)
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1", f"Host: {where.netloc}"]
    lines += ["Connection: close", "Accept: application/json", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if any(not line.isascii() or not line.isprintable() for line in lines):
        raise AuthorityError(f"the URL of {where.netloc} is not printable ASCII")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"


async def _receive(reader: asyncio.StreamReader, place: str) -> bytes:
    """All bytes of the answer: up to its announced length, or until the server closes."""
    raw = bytearray()
    end: int | None = None
    while end is None or len(raw) < end:
        chunk = await reader.read(16 * 1024)
        if not chunk:
            break
        raw += chunk
        split = raw.find(b"\r\n\r\n")
        if (split if split >= 0 else len(raw)) > HEAD_BYTES_MAX:
            raise AuthorityError(f"{place} sent headers beyond {HEAD_BYTES_MAX} bytes")
        # room for the framing of a chunked body
        if len(raw) - max(split, 0) > 2 * HTTP_BODY_BYTES_MAX:
            raise _too_large(place)
        if end is None and split >= 0:
            end = _announced_end(bytes(raw[: split + 4]), place)
    return bytes(raw)


def _announced_end(head: bytes, place: str) -> int | None:
    """The end of an answer that gives its length; None when only the closing of the connection tells."""
    answer = _begin(head, place)
    if answer.length is None:
        return None
    if answer.length > HTTP_BODY_BYTES_MAX:
        raise _too_large(place)
    return len(head) + answer.length


def _parse(raw: bytes, place: str) -> Answer:
    if not raw:
        text = f"{place} closed the connection without an answer"
        raise AuthorityError(text, Reason.AUTHORITY_UNREACHABLE)
    answer = _begin(raw, place)
    try:
        # without a number: read(n) does not complain about a body that was cut short
        body = answer.read()
    except (http.client.HTTPException, ValueError):
        raise AuthorityError(f"{place} sent a truncated answer") from None
    if len(body) > HTTP_BODY_BYTES_MAX:
        raise _too_large(place)
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


def _begin(raw: bytes, place: str) -> http.client.HTTPResponse:
    class Socket:
        def makefile(self, *_: Any) -> io.BytesIO:
            return io.BytesIO(raw)

    answer = http.client.HTTPResponse(cast(Any, Socket()))
    try:
        if b"\r\n\r\n" not in raw:
            raise http.client.BadStatusLine("the headers do not end")
        answer.begin()
    except (http.client.HTTPException, ValueError):
        raise AuthorityError(f"{place} did not answer in HTTP") from None
    return answer


def _too_large(place: str) -> AuthorityError:
    return AuthorityError(f"{place} sent an answer beyond {HTTP_BODY_BYTES_MAX} bytes")
