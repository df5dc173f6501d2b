"""Client authentication by a private key that never leaves its node (``private_key_jwt``, RFC 7523, 2.2).

The PEM file holds the key, and where an authority finds keys by their certificate (Microsoft Entra does) the
certificate behind it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from entgldb.messages.errors import SecretError
from entgldb.messages.schema import Json
from entgldb.messages.secret import Secret

LIFE_SECONDS: Final = 60
"""How long an assertion is good: it is sent at once, to one server."""
RSA_BITS_MIN: Final = 2048
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_THUMBPRINTED: Final = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
"""RFC 7638, 3.2, and RFC 8037, 2: the members of a key that its thumbprint covers."""


def new_client_key() -> Secret:
    """A new key in PEM: on P-256, which every authority takes."""
    key = generate_private_key(SECP256R1())
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_jwk(pem: Secret) -> dict[str, Json]:
    """The public half, as an authority registers it (RFC 7517). Raises SecretError."""
    key, algorithm, writer = _loaded(pem)
    made: dict[str, Json] = json.loads(writer(key.public_key()))
    return {**made, "kid": _thumbprint(made), "use": "sig", "alg": algorithm}


def assertion(client_id: str, audience: str, pem: Secret, now: float) -> str:
    """A signed word that we are ``client_id``, for one server and for ``LIFE_SECONDS``; ``now`` in Unix
    seconds. Raises SecretError."""
    key, algorithm, writer = _loaded(pem)
    headers: dict[str, Any] = {"kid": _thumbprint(json.loads(writer(key.public_key())))}
    if _CERTIFICATE in pem.reveal():
        headers["x5t#S256"] = _certificate_name(pem)
    issued = int(now)
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(24),
        "iat": issued,
        "nbf": issued,
        "exp": issued + LIFE_SECONDS,
    }
    return jwt.encode(claims, key, algorithm, headers=headers)


def _loaded(pem: Secret) -> tuple[Any, str, Callable[[Any], str]]:
    """The key, the algorithm that it signs with, and the function that writes its public half as JSON."""
    try:
        key = load_pem_private_key(pem.reveal(), None)
    except (ValueError, TypeError, UnicodeError):
        # TypeError: it is encrypted
        raise SecretError("the client key is no unencrypted private key in PEM", hint=_HINT) from None
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256", ECAlgorithm.to_jwk
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA", OKPAlgorithm.to_jwk
    if isinstance(key, RSAPrivateKey) and key.key_size >= RSA_BITS_MIN:
        return key, "RS256", RSAAlgorithm.to_jwk
    raise SecretError(f"the client key is none of P-256, Ed25519, RSA of {RSA_BITS_MIN} bits", hint=_HINT)


def _thumbprint(jwk: dict[str, Json]) -> str:
    covered = {name: jwk[name] for name in _THUMBPRINTED[str(jwk["kty"])]}
    text = json.dumps(covered, separators=(",", ":"), sort_keys=True)
    return base64url_encode(hashlib.sha256(text.encode()).digest()).decode()


def _certificate_name(pem: Secret) -> str:
    """RFC 7515, 4.1.8."""
    try:
        found = x509.load_pem_x509_certificate(_CERTIFICATE + pem.reveal().partition(_CERTIFICATE)[2])
    except ValueError:
        raise SecretError("the certificate behind the client key cannot be read", hint=_HINT) from None
    return base64url_encode(found.fingerprint(SHA256())).decode()


_HINT: Final = "entgldb client-key makes one"
