"""Access tokens by the client credentials grant (RFC 6749, 4.4), its messages made by oauthlib.

Tokens and secrets live in memory only, and in no text that leaves here.
"""

from __future__ import annotations

import base64
import json
import re
import time
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error

from entgldb.actors.oauth.authority import discover, json_object, one_line, unexpected
from entgldb.actors.oauth.client_key import ASSERTION_TYPE, assertion
from entgldb.actors.oauth.http import Answer, AuthorityError, answered_in_time, request
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.errors import Reason, SecretError
from entgldb.messages.limits import TOKEN_BYTES_MAX
from entgldb.messages.local.actors import TokenFailed, TokenIssued
from entgldb.messages.remote_peers import PRIVATE_KEY_JWT, OAuth2
from entgldb.messages.schema import Json, Message
from entgldb.messages.secret import Secret

FORM = "application/x-www-form-urlencoded"
LIFE_SECONDS_DEFAULT = 300.0
"""The life of a token whose server does not tell it (RFC 6749, 5.1 only recommends that it does)."""
TEMPORARY = frozenset({"temporarily_unavailable", "server_error"})
"""Error words with which a server blames itself; all others blame the client and wait for an operator."""


class Token(NamedTuple):
    """A bearer token and the seconds it lives from now on."""

    text: str
    expires_in: float


class HttpTokenSource:
    """Implements ``ports.TokenSource`` on a side loop."""

    def __init__(self, loop: SideLoop, secrets: KeyedSecrets) -> None:
        self._loop = loop
        self._secrets = secrets

    def request(self, node_id: str, ticket: int, oauth2: OAuth2) -> None:
        """Begin; TokenIssued or TokenFailed with this ``ticket`` will be posted, exactly one."""
        self._loop.post_outcome(self._outcome(node_id, ticket, oauth2))

    async def fetch(self, node_id: str, oauth2: OAuth2) -> Token:
        """A token for a cloud peer, in the loop's own thread. Raises SecretError or AuthorityError."""
        return await fetch_token(oauth2, self._secrets.resolve(node_id, oauth2))

    async def _outcome(self, node_id: str, ticket: int, oauth2: OAuth2) -> Message:
        try:
            token = await self.fetch(node_id, oauth2)
        except SecretError as fault:
            return TokenFailed(node_id, ticket, Reason.SECRET_MISSING.value, fault.text, 0.0, True)
        except AuthorityError as fault:
            why = fault.reason.value
            return TokenFailed(node_id, ticket, why, fault.text, fault.retry_after, fault.by_client)
        except Exception as fault:  # noqa: BLE001 -- the gateway waits for exactly one answer
            text = f"the token request failed: {type(fault).__name__}"
            return TokenFailed(node_id, ticket, Reason.AUTHORITY_ERROR.value, text, 0.0)
        return TokenIssued(node_id, ticket, token.text, token.expires_in)


async def fetch_token(oauth2: OAuth2, secret: Secret) -> Token:
    """One token for the client of ``oauth2``; ``secret`` is the private key in PEM where it has one. Raises
    AuthorityError, and SecretError for a key that cannot sign."""
    async with answered_in_time(oauth2.authority):
        if oauth2.token_endpoint:
            url, basic, ours = oauth2.token_endpoint, False, oauth2.token_endpoint
        else:
            metadata = await discover(oauth2.authority, oauth2.ca_pem)
            url, basic, ours = metadata.token_endpoint, metadata.basic_only, metadata.issuer
        method = oauth2.auth_method or ("client_secret_basic" if basic else "client_secret_post")
        body, headers = _prepare(oauth2, secret, method, ours)
        answer = await request(url, body=body, headers=headers, ca_pem=oauth2.ca_pem)
    return read_token_answer(url, answer, oauth2.scopes, secret)


def read_token_answer(url: str, answer: Answer, scopes: tuple[str, ...], secret: Secret) -> Token:
    """The token in an answer of a token endpoint, or AuthorityError saying whose fault it is."""
    if answer.status in (400, 401, 403):
        raise _refused(url, answer, secret)
    found = json_object(url, answer)
    try:
        parsed = _parse(found, scopes)
        given, kind, life = parsed["access_token"], parsed.get("token_type"), parsed.get("expires_in")
    except (OAuth2Error, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise AuthorityError(f"the token answer of {url} is malformed") from None
    missing = sorted(set(scopes) - set(parsed.get("scope") or scopes))
    if missing:  # the cloud would refuse the token later; more scope than asked for is harmless
        text = f"{url} did not grant the scope {one_line(' '.join(missing))}"
        raise AuthorityError(text, Reason.AUTHORITY_REFUSED)
    if not isinstance(given, str) or not re.fullmatch(r"[\x21-\x7e]+", given) or len(given) > TOKEN_BYTES_MAX:
        raise AuthorityError(f"{url} gave no usable access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise AuthorityError(f"{url} gave a token that is no bearer token")
    seconds = LIFE_SECONDS_DEFAULT if life is None else float(life)
    if seconds <= 0:
        raise AuthorityError(f"{url} gave a token that has already expired")
    return Token(given, seconds)


def _parse(found: dict[str, Json], scopes: tuple[str, ...]) -> dict[str, Json]:
    """The parameters of a token answer, checked by oauthlib; scope as a list."""
    try:
        parsed = BackendApplicationClient("").parse_request_body_response(
            json.dumps(found), scope=list(scopes)
        )
    except Warning as other_scope:  # oauthlib raises a warning when another scope was granted
        parsed = other_scope.token  # type: ignore[attr-defined]  # hung onto it by oauthlib
    return dict(parsed)


def _prepare(oauth2: OAuth2, secret: Secret, method: str, ours: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a token request, with the credentials where ``method`` puts them.

    ``ours`` names the server in an assertion: the issuer, so that no other server can use it; a configured
    endpoint where no metadata is read.
    """
    client = BackendApplicationClient(oauth2.client_id)
    basic = method == "client_secret_basic"
    extra = {}
    if method == PRIVATE_KEY_JWT:
        signed = assertion(oauth2.client_id, ours, secret, time.time())
        extra = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
    elif not basic:
        extra = {"client_secret": secret.text()}
    body = client.prepare_request_body(
        scope=list(oauth2.scopes), include_client_id=not basic, audience=oauth2.audience, **extra
    )
    headers = {"Content-Type": FORM}
    if basic:  # RFC 6749, 2.3.1: both halves are form-encoded first
        pair = f"{quote_plus(oauth2.client_id)}:{quote_plus(secret.text())}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return body.encode(), headers


def _refused(url: str, answer: Answer, secret: Secret) -> AuthorityError:
    """RFC 6749, 5.2: the server says in a word why it gives no token."""
    try:
        found = json.loads(answer.body)
        word = found["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return unexpected(url, answer)
    if not isinstance(word, str) or not re.fullmatch(r"[A-Za-z0-9_.:/-]{1,64}", word):
        return unexpected(url, answer)
    reason = Reason.AUTHORITY_ERROR if word in TEMPORARY else Reason.AUTHORITY_REFUSED
    text = f"{url} refused: {word}"
    description = found.get("error_description")
    if isinstance(description, str):
        text += f" ({one_line(description)})"
    fault = AuthorityError(_without(text, secret, word), reason, answer.retry_after)
    fault.by_client = word == "invalid_client" or answer.status == 401
    return fault


def _without(text: str, secret: Secret, word: str) -> str:
    """A server may echo what it was sent: such a text is dropped as a whole."""
    raw, clear = secret.reveal(), secret.text()
    forms = (clear, quote(clear), quote_plus(clear), base64.b64encode(raw).decode(), raw.hex())
    return f"the authorization server refused: {word}" if any(form in text for form in forms) else text
