"""``private_key_jwt``: a node signs for itself, and no secret is replicated."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from entgldb.actors.oauth.client import fetch_token
from entgldb.actors.oauth.client_key import ASSERTION_TYPE, assertion, new_client_key, public_jwk
from entgldb.actors.oauth.http import AuthorityError
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.messages.errors import Reason, SecretError
from entgldb.messages.remote_peers import PRIVATE_KEY_JWT, OAuth2
from entgldb.messages.secret import Secret

from .authority_process import AuthorityProcess

PEM = new_client_key()


@pytest.fixture(scope="module")
def authority() -> Iterator[AuthorityProcess]:
    with AuthorityProcess("gw:s3cret") as process:
        process.control(client={"id": "gw", "keys": [public_jwk(PEM)]})
        yield process


@pytest.fixture
def oauth2(authority: AuthorityProcess) -> OAuth2:
    return OAuth2(
        authority.url, "gw", scopes=("entgldb:sync",), audience="cloud", auth_method=PRIVATE_KEY_JWT
    )


def pem_of(key: Any) -> Secret:
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def post(authority: AuthorityProcess, **fields: str) -> int:
    body = urllib.parse.urlencode({"grant_type": "client_credentials", **fields}).encode()
    try:
        with urllib.request.urlopen(f"{authority.url}/token", body, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as fault:
        return fault.code


def test_an_authority_gives_a_token_for_an_assertion(oauth2: OAuth2) -> None:
    token = asyncio.run(fetch_token(oauth2, PEM))
    claims = jwt.decode(token.text, options={"verify_signature": False})
    assert (claims["client_id"], claims["aud"]) == ("gw", "cloud")


def test_a_key_that_is_not_registered_is_refused_by_the_authority(oauth2: OAuth2) -> None:
    with pytest.raises(AuthorityError) as fault:
        asyncio.run(fetch_token(oauth2, new_client_key()))
    assert fault.value.reason is Reason.AUTHORITY_REFUSED


def test_an_assertion_is_good_once_and_for_one_server(authority: AuthorityProcess) -> None:
    def status(text: str, kind: str = ASSERTION_TYPE) -> int:
        return post(authority, client_assertion_type=kind, client_assertion=text)

    good = assertion("gw", authority.url, PEM, time.time())
    assert status(good) == 200
    assert status(good) == 401
    assert status(assertion("gw", "https://other.example", PEM, time.time())) == 401
    assert status(assertion("gw", authority.url, PEM, time.time() - 120)) == 401
    assert status(assertion("other", authority.url, PEM, time.time())) == 401
    assert status(assertion("gw", authority.url, PEM, time.time()), "urn:other") == 401


@pytest.mark.parametrize(
    ("made", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate, "EdDSA"),
        (lambda: rsa.generate_private_key(65537, 2048), "RS256"),
    ],
    ids=["P-256", "Ed25519", "RSA"],
)
def test_a_key_signs_in_its_way_under_its_thumbprint(made: Any, algorithm: str) -> None:
    pem = pem_of(made())
    jwk = public_jwk(pem)
    text = assertion("gw", "https://id.example", pem, 1_000_000)
    assert jwt.get_unverified_header(text) == {"alg": algorithm, "kid": jwk["kid"], "typ": "JWT"}
    key = jwt.PyJWK(jwk).key
    told = jwt.decode(text, key, [algorithm], audience="https://id.example", options={"verify_exp": False})
    assert (told["iss"], told["sub"], told["exp"] - told["iat"]) == ("gw", "gw", 60)
    assert "d" not in jwk


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    # RFC 8037, appendix A.3: the key of A.1 and its thumbprint
    private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    jwk = public_jwk(pem_of(ed25519.Ed25519PrivateKey.from_private_bytes(private)))
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_certificate_behind_the_key_is_named() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    text = assertion("gw", "https://id.example", Secret(pem_of(key).reveal() + certificate), 0)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    assert jwt.get_unverified_header(text)["x5t#S256"] == digest
    with pytest.raises(SecretError, match="certificate"):
        assertion(
            "gw",
            "https://id.example",
            Secret(pem_of(key).reveal() + b"-----BEGIN CERTIFICATE-----\nAA==\n"),
            0,
        )


def encrypted() -> Secret:
    key = ec.generate_private_key(ec.SECP256R1())
    secret = BestAvailableEncryption(b"secret")
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


@pytest.mark.parametrize(
    "pem",
    [
        Secret(""),
        Secret("secret"),
        Secret("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        encrypted(),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        pem_of(rsa.generate_private_key(65537, 1024)),
    ],
    ids=["empty", "text", "damaged", "encrypted", "P-384", "short RSA"],
)
def test_a_key_that_cannot_sign_is_refused_without_quoting_it(pem: Secret) -> None:
    with pytest.raises(SecretError) as fault:
        assertion("gw", "https://id.example", pem, 0)
    assert not pem or pem.text() not in str(fault.value)


def test_each_node_has_the_key_in_its_own_directory(tmp_path: Path) -> None:
    oauth2 = OAuth2("https://id.example", "gw", auth_method=PRIVATE_KEY_JWT)
    secrets = KeyedSecrets(str(tmp_path / "cluster.key"), "c")
    assert not secrets.resolvable("cloud-1", oauth2)
    with pytest.raises(SecretError, match=r"client-key\.pem"):
        secrets.resolve("cloud-1", oauth2)
    (tmp_path / "client-key.pem").write_text(PEM.text())
    assert secrets.resolve("cloud-1", oauth2) == Secret(PEM.text().strip())


def test_a_private_key_is_never_sent_as_a_secret(tmp_path: Path) -> None:
    (tmp_path / "client-key.pem").write_text(PEM.text())
    as_secret = OAuth2("https://id.example", "gw", "file:client-key.pem", auth_method="client_secret_post")
    with pytest.raises(SecretError, match="no usable secret"):
        KeyedSecrets(str(tmp_path / "cluster.key"), "c").resolve("cloud-1", as_secret)


def test_a_configured_endpoint_is_whom_the_assertion_is_for(
    authority: AuthorityProcess, oauth2: OAuth2
) -> None:
    from dataclasses import replace

    there = replace(oauth2, token_endpoint=f"{authority.url}/token")
    assert asyncio.run(fetch_token(there, PEM)).expires_in == 300


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_secret_goes_where_the_method_says(authority: AuthorityProcess, method: str) -> None:
    oauth2 = OAuth2(authority.url, "gw", audience="cloud", auth_method=method)
    assert asyncio.run(fetch_token(oauth2, Secret("s3cret"))).expires_in == 300


def test_the_verb_makes_the_key_once_and_shows_its_public_half(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from entgldb.launch.cli.cluster.client_key import client_key

    first = CliRunner().invoke(client_key, ["-d", str(tmp_path)])
    again = CliRunner().invoke(client_key, ["-d", str(tmp_path), "--json"])
    file = tmp_path / "client-key.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (
        json.loads(first.stdout)["keys"]
        == json.loads(again.stdout)["keys"]
        == [public_jwk(Secret(file.read_text()))]
    )
    assert "PRIVATE" not in first.output
