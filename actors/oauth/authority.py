"""The metadata of an authorization server: RFC 8414 metadata, or OpenID discovery."""

from __future__ import annotations

import json
import re
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from entgldb.actors.oauth.http import Answer, AuthorityError, is_authority, request
from entgldb.messages.schema import Json


class Metadata(NamedTuple):
    """The parts of the metadata that we use."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    basic_only: bool
    """The token endpoint takes the client's credentials in the Authorization header, not in the body."""


async def discover(authority: str, ca_pem: str = "") -> Metadata:
    """Fetch the metadata of ``authority``.

    The issuer it names must be ``authority``, character for character (RFC 8414, 3.3). Raises
    AuthorityError or InvalidError.
    """
    fault = AuthorityError(f"{authority} publishes no metadata")
    for url in metadata_urls(authority):
        answer = await request(url, ca_pem=ca_pem)
        if answer.status == 429 or answer.status >= 500:
            raise unexpected(url, answer)
        try:
            found = json_object(url, answer)
        except AuthorityError as not_this_one:
            # a server that knows only one of the two addresses answers the other with 404, or with a page
            fault = not_this_one
            continue
        return _read(authority, found)
    raise fault


def metadata_urls(authority: str) -> tuple[str, str]:
    """The two URLs at which metadata may lie: RFC 8414 puts its path in front of the issuer's path, OpenID
    behind it.

    >>> metadata_urls("https://a.example/x")
    ('https://a.example/.well-known/oauth-authorization-server/x', 'https://a.example/x/.well-known/openid-configuration')
    """
    where = urlsplit(authority)
    path = where.path.rstrip("/")
    return (
        urlunsplit((where.scheme, where.netloc, f"/.well-known/oauth-authorization-server{path}", "", "")),
        urlunsplit((where.scheme, where.netloc, f"{path}/.well-known/openid-configuration", "", "")),
    )


def json_object(url: str, answer: Answer) -> dict[str, Json]:
    """The JSON object of a 200 answer, or AuthorityError ``authority-error``."""
    if answer.status != 200:
        raise unexpected(url, answer)
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AuthorityError(f"{urlsplit(url).netloc} did not answer with a JSON object")
    return found


def unexpected(url: str, answer: Answer) -> AuthorityError:
    """The fault for a status that helps nobody; redirects are among them."""
    text = f"{urlsplit(url).netloc} answered {answer.status}"
    if 300 <= answer.status < 400:
        text += ", a redirect, which is never followed"
    return AuthorityError(text, retry_after=answer.retry_after)


def endpoint(authority: str, url: Json, name: str) -> str:
    """Check an endpoint that metadata names: https, or http where the authority itself is on loopback."""
    secure_enough = isinstance(url, str) and (url.startswith("https:") or authority.startswith("http:"))
    if not secure_enough or not is_authority(url):
        raise AuthorityError(f"the metadata of {authority} has no {name} at an https URL")
    return str(url)


def one_line(text: str) -> str:
    """Foreign text cut short and made harmless, for a log line or a terminal."""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:160].strip()


def _read(authority: str, found: dict[str, Json]) -> Metadata:
    issuer = found.get("issuer")
    if not isinstance(issuer, str) or issuer != authority:
        text = f"the metadata of {authority} names another issuer: {one_line(str(issuer))}"
        if isinstance(issuer, str) and issuer.rstrip("/") == authority.rstrip("/"):
            text += "; give it with exactly the slashes that its server writes"
        raise AuthorityError(text)
    # RFC 8414, 2: without the list, client_secret_basic is meant
    methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Metadata(
        issuer=issuer,
        token_endpoint=endpoint(authority, found.get("token_endpoint"), "token_endpoint"),
        jwks_uri=endpoint(authority, found.get("jwks_uri"), "jwks_uri") if "jwks_uri" in found else "",
        basic_only=isinstance(methods, list) and "client_secret_post" not in methods,
    )
