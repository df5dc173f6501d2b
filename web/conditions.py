"""The conditions of a request (RFC 9110, section 13): entity tags, and the versions that they name."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from entgldb.client.conflicts import read_version, version_text
from entgldb.messages.client import ABSENT, PRESENT
from entgldb.messages.errors import InvalidError, VersionError
from entgldb.messages.model import Version

ANY: Final = "*"
"""In the place of an entity tag or a version: any that stands."""


def etag(version: Version) -> str:
    """The entity tag of a version (RFC 9110, section 8.8.3)."""
    return f'"{version_text(version)}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has already what it asks for: ``If-None-Match`` names its tag.

    Raises VersionError where ``If-Match`` names others alone.
    """
    wanted = _listed(request.headers.get("if-match", ANY))
    if not {tag, ANY} & wanted:
        raise VersionError(f"it is {tag}, which If-Match does not name", hint="read it without If-Match")
    # the weak comparison: a proxy that compresses an answer makes its tag weak
    return bool({tag, f"W/{tag}", ANY} & _listed(request.headers.get("if-none-match", "")))


def expected(request: Request) -> Version | None:
    """The state in which a write must find the document, as ``if_version``. Raises InvalidError."""
    wanted, unwanted = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if unwanted is None:
        return None if wanted is None else _tagged(wanted.strip())
    if unwanted.strip() != ANY or wanted is not None:
        raise InvalidError(
            f"If-None-Match {unwanted!r:.80} is no condition of a write",
            hint="If-None-Match: *, without If-Match",
        )
    return ABSENT.version


def read_condition(text: str, what: str) -> Version:
    """``ORIGIN:SEQ``, or ``*`` for any version. Raises InvalidError, which names ``what``."""
    return PRESENT.version if text == ANY else read_version(text, what)


def _tagged(text: str) -> Version:
    if text == ANY:
        return PRESENT.version
    if len(text) < 2 or text[0] != '"' or text.find('"', 1) != len(text) - 1:
        raise InvalidError(
            f"If-Match {text!r:.80} is not one entity tag", hint='If-Match: "ORIGIN:SEQ", or *'
        )
    return read_version(text[1:-1], "If-Match")


def _listed(text: str) -> set[str]:
    return {one.strip() for one in text.split(",")}
