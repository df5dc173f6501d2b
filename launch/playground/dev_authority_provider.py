"""The data of the development authorization server: clients, keys, tokens; on oauthlib's provider classes.

Access tokens are those of RFC 9068, signed with ES256 unless told otherwise.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from oauthlib.oauth2 import ClientCredentialsGrant, MetadataEndpoint, RequestValidator, TokenEndpoint
from oauthlib.oauth2.rfc6749.tokens import BearerToken

from entgldb.actors.oauth.client_key import ASSERTION_TYPE
from entgldb.messages.remote_peers import AUTH_METHODS
from entgldb.messages.schema import Json

SCOPE = "entgldb:sync"


def _rsa_key() -> Any:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


ALGORITHMS: Mapping[str, tuple[Callable[[], Any], Any]] = {
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
    "RS256": (_rsa_key, RSAAlgorithm),
    "PS256": (_rsa_key, RSAAlgorithm),
}
"""Algorithm -> the function that makes a key for it, and the class that writes the key's public half."""


class SigningKey(NamedTuple):
    """One key of the set, under its name."""

    kid: str
    private: Any
    algorithm: str = "ES256"

    @classmethod
    def generate(cls, algorithm: str = "ES256") -> SigningKey:
        """A new key for one of ``ALGORITHMS`` under a random name."""
        make, _ = ALGORITHMS[algorithm]
        return cls(secrets.token_hex(8), make(), algorithm)

    def public_jwk(self) -> dict[str, Json]:
        """The public half as RFC 7517 writes it."""
        _, writer = ALGORITHMS[self.algorithm]
        made: dict[str, Json] = json.loads(writer.to_jwk(self.private.public_key()))
        return {**made, "kid": self.kid, "use": "sig", "alg": self.algorithm}


class Provider:
    """The state of the server. ``issue``, ``metadata`` and ``jwks`` are its three answers."""

    def __init__(
        self,
        issuer: str,
        clients: Mapping[str, str],
        *,
        audience: str,
        lifetime_s: int,
        scopes: tuple[str, ...],
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self.lifetime_s = lifetime_s
        self.scopes = scopes
        self.clients = dict(clients)
        self.client_keys: dict[str, dict[str, Any]] = {}
        """Client -> kid -> public key, of clients that sign assertions (RFC 7523)."""
        self.seen_assertions: set[str] = set()
        self.revoked: set[str] = set()
        self.issued = 0
        self.keys = [SigningKey.generate()]
        self.lock = threading.Lock()
        checks = _Checks(self)
        bearer = BearerToken(checks, self._sign, lambda _request: self.lifetime_s)
        self._tokens = TokenEndpoint(
            default_grant_type="client_credentials",
            default_token_type=bearer,
            grant_types={"client_credentials": ClientCredentialsGrant(checks)},
        )
        # raise_errors would refuse an issuer without TLS, which is what a loopback server is
        self._metadata = MetadataEndpoint([self._tokens], self._claims(), raise_errors=False)

    def issue(self, body: str, headers: Mapping[str, str]) -> tuple[dict[str, str], str, int]:
        """Answer a token request: headers, JSON text, status."""
        with self.lock:
            answer: tuple[dict[str, str], str, int] = self._tokens.create_token_response(
                f"{self.issuer}/token", "POST", body, dict(headers)
            )
            self.issued += answer[2] == 200
        return answer

    def metadata(self) -> str:
        """RFC 8414 metadata as JSON text."""
        _, text, _ = self._metadata.create_metadata_response(self.issuer)
        return str(text)

    def jwks(self) -> str:
        """The public keys, newest first, as JSON text."""
        with self.lock:
            return json.dumps({"keys": [key.public_jwk() for key in self.keys]})

    def rotate(self, *, withdraw: bool, algorithm: str = "") -> None:
        """Sign with a new key from now on; ``withdraw`` takes the old ones out of the set at once."""
        with self.lock:
            kept = [] if withdraw else self.keys[:1]
            self.keys = [SigningKey.generate(algorithm or self.keys[0].algorithm), *kept]

    def register_keys(self, client_id: str, jwks: list[dict[str, Json]]) -> None:
        """Take the keys as those of one client, in place of all it had."""
        keys = [jwt.PyJWK(dict(jwk)) for jwk in jwks]
        self.client_keys[client_id] = {str(key.key_id): key for key in keys}

    def _claims(self) -> dict[str, Json]:
        return {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "scopes_supported": list(self.scopes),
            "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "response_types_supported": [],
        }

    def _sign(self, request: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": request.client_id,
            "client_id": request.client_id,
            "aud": getattr(request, "audience", None) or self.audience,
            "scope": " ".join(request.scopes),
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_hex(16),
        }
        key = self.keys[0]
        return jwt.encode(claims, key.private, key.algorithm, headers={"typ": "at+jwt", "kid": key.kid})


class _Client(NamedTuple):
    """The object that oauthlib wants to find at ``request.client``."""

    client_id: str


class _Checks(RequestValidator):  # type: ignore[misc]  # oauthlib ships no type information
    """The decisions that oauthlib leaves to a provider."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider

    def client_authentication_required(self, request: Any, *_: Any, **__: Any) -> bool:
        return True

    def authenticate_client(self, request: Any, *_: Any, **__: Any) -> bool:
        if getattr(request, "client_assertion_type", None) is not None:
            return self._signed(request)
        client_id, secret = _credentials(request)
        known = self._provider.clients.get(client_id)
        if known is None or client_id in self._provider.revoked:
            return False
        if not hmac.compare_digest(known.encode(), secret.encode()):
            return False
        request.client = _Client(client_id)
        return True

    def _signed(self, request: Any) -> bool:
        """RFC 7523, 3: signed with a key of the client, for this server, not expired, not seen before."""
        provider, text = self._provider, getattr(request, "client_assertion", "")
        try:
            kid = jwt.get_unverified_header(text)["kid"]
            client_id = jwt.decode(text, options={"verify_signature": False})["sub"]
            key = provider.client_keys[client_id][kid]
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[key.algorithm_name],
                audience=[provider.issuer, f"{provider.issuer}/token"],
                issuer=client_id,
                options={"require": ["exp", "iat", "jti", "sub", "aud"]},
            )
        except (jwt.PyJWTError, KeyError, TypeError):
            return False
        if client_id in provider.revoked or claims["jti"] in provider.seen_assertions:
            return False
        provider.seen_assertions.add(claims["jti"])
        request.client = _Client(client_id)
        request.client_id = client_id
        return bool(request.client_assertion_type == ASSERTION_TYPE)

    def validate_grant_type(self, client_id: str, grant_type: str, *_: Any, **__: Any) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, client_id: str, *_: Any, **__: Any) -> list[str]:
        return list(self._provider.scopes)

    def validate_scopes(self, client_id: str, scopes: list[str], *_: Any, **__: Any) -> bool:
        return set(scopes) <= set(self._provider.scopes)

    def save_token(self, token: Any, request: Any, *_: Any, **__: Any) -> None:
        """Nothing is kept: the receiver of a token checks its signature."""


def _credentials(request: Any) -> tuple[str, str]:
    """From the Authorization header (RFC 6749, 2.3.1), else from the body."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return request.client_id or "", request.client_secret or ""
    try:
        client_id, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return unquote_plus(client_id), unquote_plus(secret)
