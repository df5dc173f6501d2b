"""The door of the cloud role: what is accepted, and the many ways to be refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from entgldb.actors.oauth.http import AuthorityError
from entgldb.actors.oauth.profiles import LIFE_SECONDS_MAX
from entgldb.actors.oauth.resource_server import (
    KEYS_MAX,
    Rules,
    TokenError,
    read_keys,
    verify,
)
from entgldb.launch.playground.dev_authority_provider import SigningKey
from entgldb.messages.errors import Reason
from entgldb.messages.limits import TOKEN_BYTES_MAX

ISSUER = "https://id.example"
RULES = Rules(ISSUER, "cloud", allow_clients=("gw",))
KEY = SigningKey.generate()
OTHER = SigningKey.generate()
KEYS = read_keys({"keys": [KEY.public_jwk()]})
PUBLIC_PEM = KEY.private.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with ``changes``; None leaves a claim out."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": "cloud",
        "sub": "gw",
        "client_id": "gw",
        "jti": "1",
        "scope": "openid entgldb:sync",
        "iat": now,
        "exp": now + 300,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    good = {"typ": "at+jwt", "kid": KEY.kid, "alg": "ES256"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(head: dict[str, Any], body: Any, key: ec.EllipticCurvePrivateKey = KEY.private) -> str:
    """A token with exactly this header and body, rightly signed with ``key``."""
    text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}"
    signature = jwt.get_algorithm_by_name("ES256").sign(text.encode(), key)
    return f"{text}.{b64(signature)}"


def token(**changes: Any) -> str:
    return signed(header(), claims(**changes))


def headed(**changes: Any) -> str:
    return signed(header(**changes), claims())


def signed_as(key: SigningKey, algorithm: str = "") -> str:
    """A good token but for its algorithm, signed as PyJWT would."""
    name = algorithm or key.algorithm
    return jwt.encode(claims(), key.private, name, headers={"typ": "at+jwt", "kid": key.kid})


def keyed_by_public_key() -> str:
    """HS256 with the public key as the secret: the classic confusion, forged without PyJWT's help."""
    import hashlib
    import hmac

    text = f"{b64(json.dumps(header(alg='HS256')).encode())}.{b64(json.dumps(claims()).encode())}"
    return f"{text}.{b64(hmac.digest(PUBLIC_PEM, text.encode(), hashlib.sha256))}"


def with_rsa() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims(), key, "RS256", headers={"typ": "at+jwt", "kid": KEY.kid})


def unsigned(algorithm: str) -> str:
    head = b64(json.dumps(header(alg=algorithm)).encode())
    return f"{head}.{b64(json.dumps(claims()).encode())}."


def tampered(part: int) -> str:
    parts = token().split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    raw[len(raw) // 2] ^= 1
    parts[part] = b64(bytes(raw))
    return ".".join(parts)


def padded_bits() -> str:
    """The same signature bytes, spelled differently: the unused low bits of its last character are set."""
    good = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]


def mixed() -> str:
    """Body of one token, signature of another."""
    one, two = token(), token(jti="2")
    return ".".join([*one.split(".")[:2], two.split(".")[2]])


def later(seconds: float) -> int:
    return int(time.time() + seconds)


BAD: dict[str, Callable[[], str]] = {
    # outer form
    "empty": lambda: "",
    "words": lambda: "not a token",
    "one part": lambda: token().split(".")[0],
    "two parts": lambda: token().rpartition(".")[0],
    "four parts": lambda: token() + ".AAAA",
    "five parts": lambda: token() + ".AAAA.AAAA",
    "padding": lambda: token() + "==",
    "line end": lambda: token() + "\n",
    "leading space": lambda: " " + token(),
    "standard base64": lambda: token()[:-4] + "+/+/",
    "other digits": lambda: token()[:-1] + "٣",
    "unused bits": padded_bits,
    "too long": lambda: token(extra="x" * TOKEN_BYTES_MAX),
    "JSON form": lambda: json.dumps({"payload": token()}),
    # header
    "header no JSON": lambda: "AAAA." + token().partition(".")[2],
    "header an array": lambda: b64(b"[]") + "." + token().partition(".")[2],
    "typ JWT": lambda: headed(typ="JWT"),
    "typ id token": lambda: headed(typ="id+jwt"),
    "typ upper case": lambda: headed(typ="AT+JWT"),
    "typ missing": lambda: headed(typ=None),
    "kid missing": lambda: headed(kid=None),
    "kid unknown": lambda: headed(kid="other"),
    "kid a number": lambda: headed(kid=5),
    "kid a path": lambda: headed(kid="../../etc/passwd\x00"),
    "kid huge": lambda: headed(kid="k" * 300),
    "crit": lambda: headed(crit=["exp"]),
    "crit empty": lambda: headed(crit=[]),
    "jwk with its key": lambda: signed(header(jwk=OTHER.public_jwk()), claims(), OTHER.private),
    "b64": lambda: headed(b64=False),
    # algorithm and signature
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "alg none with a signature": lambda: headed(alg="none"),
    "alg HS256 with the public key": keyed_by_public_key,
    "alg RS256 under the name of another kind of key": with_rsa,
    "alg ES384": lambda: headed(alg="ES384"),
    "alg EdDSA": lambda: headed(alg="EdDSA"),
    "alg missing": lambda: headed(alg=None),
    "alg a list": lambda: headed(alg=["ES256"]),
    "signature empty": lambda: token().rpartition(".")[0] + ".",
    "signature zero": lambda: token().rpartition(".")[0] + "." + b64(bytes(64)),
    "signature short": lambda: token()[:-8],
    "signature tampered": lambda: tampered(2),
    "body tampered": lambda: tampered(1),
    "signature of another token": mixed,
    "another key under a known name": lambda: signed(header(), claims(), OTHER.private),
    # times
    "expired": lambda: token(iat=later(-400), exp=later(-10)),
    "exp missing": lambda: token(exp=None),
    "exp a text": lambda: token(exp="tomorrow"),
    "exp a text of digits": lambda: token(exp=str(later(300))),
    "exp true": lambda: token(exp=True),
    "exp infinite": lambda: token(exp=float("inf")),
    "exp huge": lambda: token(exp=10**400),
    "iat missing": lambda: token(iat=None),
    "iat ahead": lambda: token(iat=later(60), exp=later(120)),
    "iat nan": lambda: token(iat=float("nan")),
    "iat after exp": lambda: token(iat=later(4), exp=later(2)),
    "nbf ahead": lambda: token(nbf=later(60)),
    "lives too long": lambda: token(exp=later(LIFE_SECONDS_MAX + 60)),
    # who, from whom, to whom
    "iss missing": lambda: token(iss=None),
    "iss another": lambda: token(iss="https://evil.example"),
    "iss a beginning": lambda: token(iss="https://id.exampl"),
    "iss longer": lambda: token(iss=ISSUER + "/"),
    "iss a list": lambda: token(iss=[ISSUER]),
    "aud missing": lambda: token(aud=None),
    "aud another": lambda: token(aud="cloud-2"),
    "aud empty": lambda: token(aud=""),
    "aud a list": lambda: token(aud=["cloud", "other"]),
    "sub missing": lambda: token(sub=None),
    "sub empty": lambda: token(sub=""),
    "sub a number": lambda: token(sub=5),
    "client_id missing": lambda: token(client_id=None),
    "client_id with a line end": lambda: token(client_id="gw\n"),
    "client_id not allowed": lambda: token(client_id="other"),
    "client_id a prefix": lambda: token(client_id="g"),
    "jti missing": lambda: token(jti=None),
    "jti empty": lambda: token(jti=""),
    # scope
    "scope missing": lambda: token(scope=None),
    "scope empty": lambda: token(scope=""),
    "scope another": lambda: token(scope="openid"),
    "scope longer": lambda: token(scope="entgldb:sync2"),
    "scope in the middle": lambda: token(scope="xentgldb:sync"),
    "scope in capitals": lambda: token(scope="ENTGLDB:SYNC"),
    "scope behind a tab": lambda: token(scope="openid\tentgldb:sync"),
    "scope a list": lambda: token(scope=["entgldb:sync"]),
    # body
    "body an array": lambda: signed(header(), []),
    "body a text": lambda: signed(header(), "text"),
}


def test_there_are_many_kinds() -> None:
    assert len(BAD) >= 68


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_for_a_stated_reason(kind: str) -> None:
    bad = BAD[kind]()
    with pytest.raises(TokenError) as fault:
        verify(bad, KEYS, RULES)
    assert fault.value.text.isprintable()
    assert not bad or bad not in fault.value.text
    old = kind in ("expired", "exp true")
    assert fault.value.reason is (Reason.TOKEN_EXPIRED if old else Reason.TOKEN_REFUSED)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
def test_each_algorithm_is_taken_with_a_key_of_its_kind_and_with_no_other(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    assert verify(signed_as(key), read_keys({"keys": [key.public_jwk()]}), RULES).client_id == "gw"
    for other in {"ES256", "RS256", "PS256", "EdDSA"} - {algorithm}:
        wrong = SigningKey.generate(other)._replace(kid=key.kid)
        with pytest.raises(TokenError, match="its key is for"):
            verify(signed_as(key), read_keys({"keys": [wrong.public_jwk()]}), RULES)


def test_an_rsa_key_that_names_no_algorithm_may_use_both() -> None:
    key = SigningKey.generate("RS256")
    jwk = {name: value for name, value in key.public_jwk().items() if name != "alg"}
    for algorithm in ("RS256", "PS256"):
        assert verify(signed_as(key, algorithm), read_keys({"keys": [jwk]}), RULES).client_id == "gw"


def test_a_short_rsa_key_is_left_out() -> None:
    short = SigningKey("short", rsa.generate_private_key(65537, 1024), "RS256")
    assert read_keys({"keys": [short.public_jwk()]}) == {}


@pytest.mark.parametrize(
    "more",
    [
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["AAAA"]},
        {"x5t": "AAAA"},
        {"cty": "JWT"},
        {"typ": "application/at+jwt"},
    ],
    ids=str,
)
def test_header_names_that_are_not_known_are_ignored(more: dict[str, Any]) -> None:
    assert verify(headed(**more), KEYS, RULES).client_id == "gw"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scope": "entgldb:sync"},
        {"exp": LIFE_SECONDS_MAX - 60},
        {"iat": 3, "exp": 300},
        {"iat": -300, "exp": -2},
        {"extra": {"anything": [1, 2]}},
    ],
    ids=["plain", "one scope", "nearly an hour", "clock ahead", "just expired", "more claims"],
)
def test_a_good_token_is_accepted(changes: dict[str, Any]) -> None:
    # times are offsets: collected long before it runs, a test must not age
    now_told = {name: later(value) if name in ("iat", "exp") else value for name, value in changes.items()}
    accepted = verify(token(**now_told), KEYS, RULES)
    assert (accepted.client_id, accepted.subject) == ("gw", "gw")


def test_without_a_list_every_client_is_allowed() -> None:
    assert verify(token(client_id="other"), KEYS, RULES._replace(allow_clients=())).client_id == "other"


def test_all_configured_scopes_are_needed() -> None:
    both = RULES._replace(scopes=("entgldb:sync", "eu"))
    assert verify(token(scope="eu entgldb:sync"), KEYS, both).scopes == ("eu", "entgldb:sync")
    with pytest.raises(TokenError, match="lacks the scope eu"):
        verify(token(), KEYS, both)


# --- key sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"use": "enc"},
        {"alg": "ES384"},
        {"kid": 5},
        {"x": "AAAA"},
        {"x": None},
        {"d": "AAAA"},
    ],
    ids=str,
)
def test_an_unusable_key_is_left_out(change: dict[str, Any]) -> None:
    assert set(read_keys({"keys": [OTHER.public_jwk(), {**KEY.public_jwk(), **change}, "text"]})) == {
        OTHER.kid
    }


@pytest.mark.parametrize(
    "found",
    [{}, {"keys": {}}, {"keys": [KEY.public_jwk(), KEY.public_jwk()]}, {"keys": [{}] * (KEYS_MAX + 1)}],
    ids=["none", "no list", "one name twice", "too many"],
)
def test_a_key_set_that_cannot_be_trusted_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(AuthorityError):
        read_keys(found)
