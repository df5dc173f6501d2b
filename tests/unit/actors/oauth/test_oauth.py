"""The token source against a real authorization server, well and unwell."""

from __future__ import annotations

import asyncio
import json
import select
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from entgldb.actors.oauth.authority import discover, metadata_urls
from entgldb.actors.oauth.client import HttpTokenSource, Token, fetch_token, read_token_answer
from entgldb.actors.oauth.http import Answer, AuthorityError, request
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import TokenFailed, TokenIssued
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.schema import Message
from entgldb.messages.secret import Secret

from .authority_process import AuthorityProcess

SECRET = "s3cret/with+odd=signs"
SCOPES = ("entgldb:sync",)


@pytest.fixture(scope="module")
def process() -> Iterator[AuthorityProcess]:
    with AuthorityProcess(f"gw:{SECRET}") as authority:
        yield authority


@pytest.fixture
def authority(process: AuthorityProcess) -> AuthorityProcess:
    process.control(mode="ok", delay_s=0, retry_after_s=0, lifetime_s=300, allow="gw")
    return process


@pytest.fixture
def oauth2(authority: AuthorityProcess) -> OAuth2:
    return OAuth2(authority.url, "gw", scopes=SCOPES, audience="cloud")


def fetch(oauth2: OAuth2, secret: str = SECRET) -> Token:
    return asyncio.run(fetch_token(oauth2, Secret(secret)))


def test_a_token_is_for_the_client_and_audience_that_asked(oauth2: OAuth2) -> None:
    token = fetch(oauth2)
    claims = jwt.decode(token.text, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"], claims["client_id"]) == (oauth2.authority, "cloud", "gw")
    assert token.expires_in == 300


def test_a_configured_token_endpoint_needs_no_metadata(oauth2: OAuth2) -> None:
    elsewhere = replace(
        oauth2, authority="https://nobody.invalid", token_endpoint=f"{oauth2.authority}/token"
    )
    assert fetch(elsewhere).expires_in == 300


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("down", Reason.AUTHORITY_UNREACHABLE),
        ("500", Reason.AUTHORITY_ERROR),
        ("429", Reason.AUTHORITY_ERROR),
        ("html", Reason.AUTHORITY_ERROR),
        ("truncated", Reason.AUTHORITY_ERROR),
        ("huge", Reason.AUTHORITY_ERROR),
        ("redirect", Reason.AUTHORITY_ERROR),
        ("empty", Reason.AUTHORITY_ERROR),
        ("broken-json", Reason.AUTHORITY_ERROR),
    ],
)
@pytest.mark.parametrize("configured", [False, True], ids=["metadata", "token-endpoint"])
def test_an_unwell_authority_is_classified(
    authority: AuthorityProcess, oauth2: OAuth2, mode: str, reason: Reason, configured: bool
) -> None:
    if configured:
        oauth2 = replace(oauth2, token_endpoint=f"{authority.url}/token")
    authority.control(mode=mode, retry_after_s=7)
    with pytest.raises(AuthorityError) as fault:
        fetch(oauth2)
    assert fault.value.reason is reason
    assert fault.value.retry_after == (7 if mode in ("500", "429") else 0)
    assert SECRET not in fault.value.text
    authority.control(mode="ok")
    assert fetch(oauth2).text


def test_an_authority_that_hangs_is_given_up(authority: AuthorityProcess) -> None:
    authority.control(mode="hang")
    with pytest.raises(AuthorityError, match="in time") as fault:
        asyncio.run(request(f"{authority.url}/jwks", total_seconds=0.2))
    assert fault.value.reason is Reason.AUTHORITY_UNREACHABLE


def test_a_slow_authority_is_waited_for(authority: AuthorityProcess, oauth2: OAuth2) -> None:
    authority.control(delay_s=0.2)
    began = time.monotonic()
    assert fetch(oauth2).text
    assert time.monotonic() - began >= 0.4  # metadata and token


def test_nothing_listens(authority: AuthorityProcess) -> None:
    with AuthorityProcess("gw:x") as gone:
        url = gone.url
    with pytest.raises(AuthorityError) as fault:
        fetch(OAuth2(url, "gw"))
    assert fault.value.reason is Reason.AUTHORITY_UNREACHABLE


def test_a_wrong_secret_and_a_revoked_client_wait_for_an_operator(
    authority: AuthorityProcess, oauth2: OAuth2
) -> None:
    with pytest.raises(AuthorityError, match="invalid_client") as fault:
        fetch(oauth2, "wrong")
    assert (fault.value.reason, fault.value.by_client) == (Reason.AUTHORITY_REFUSED, True)
    authority.control(revoke="gw")
    with pytest.raises(AuthorityError, match="invalid_client"):
        fetch(oauth2)
    authority.control(allow="gw")
    assert fetch(oauth2).text


def test_a_scope_that_is_not_granted_is_named(oauth2: OAuth2) -> None:
    with pytest.raises(AuthorityError, match="invalid_scope") as fault:
        fetch(replace(oauth2, scopes=("entgldb:admin",)))
    assert not fault.value.by_client
    assert fault.value.reason is Reason.AUTHORITY_REFUSED


def test_metadata_of_another_issuer_is_refused(authority: AuthorityProcess) -> None:
    alias = authority.url.replace("127.0.0.1", "localhost")
    with pytest.raises(AuthorityError, match="another issuer"):
        asyncio.run(discover(alias))


@pytest.mark.parametrize("url", ["http://example.com", "https://user@example.com", "ftp://127.0.0.1/", "x"])
def test_no_secret_goes_where_it_could_be_read(url: str) -> None:
    with pytest.raises(AuthorityError) as fault:
        asyncio.run(request(url))
    assert fault.value.reason is Reason.AUTHORITY_ERROR


def test_both_places_of_metadata() -> None:
    assert metadata_urls("https://a.example/realms/x") == (
        "https://a.example/.well-known/oauth-authorization-server/realms/x",
        "https://a.example/realms/x/.well-known/openid-configuration",
    )


def answer(status: int, body: object) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        {"access_token": "t"},
        {"access_token": "t", "token_type": "mac"},
        {"access_token": "", "token_type": "bearer"},
        {"access_token": 5, "token_type": "bearer"},
        {"access_token": "two words", "token_type": "bearer"},
        {"access_token": "x" * 8193, "token_type": "bearer"},
        {"access_token": "t", "token_type": "bearer", "expires_in": "soon"},
        {"access_token": "t", "token_type": "bearer", "expires_in": -1},
        {"access_token": "t", "token_type": "bearer", "expires_in": [1]},
        {"access_token": "t", "token_type": "bearer", "scope": 5},
    ],
)
def test_a_malformed_token_answer_is_the_authority_s_fault(body: object) -> None:
    with pytest.raises(AuthorityError) as fault:
        read_token_answer("https://a.example/token", answer(200, body), SCOPES, Secret(SECRET))
    assert fault.value.reason is Reason.AUTHORITY_ERROR


def test_less_scope_than_asked_for_is_refused_and_more_is_fine() -> None:
    good = {"access_token": "t", "token_type": "Bearer", "expires_in": 60}
    wider = answer(200, {**good, "scope": "entgldb:sync openid"})
    assert read_token_answer("https://a.example/token", wider, SCOPES, Secret(SECRET)) == Token("t", 60.0)
    with pytest.raises(AuthorityError, match="did not grant the scope entgldb:sync") as fault:
        read_token_answer(
            "https://a.example/token", answer(200, {**good, "scope": "openid"}), SCOPES, Secret(SECRET)
        )
    assert fault.value.reason is Reason.AUTHORITY_REFUSED


def test_a_token_without_a_lifetime_is_taken_for_a_short_one() -> None:
    given = answer(200, {"access_token": "t", "token_type": "bearer"})
    assert read_token_answer("https://a.example/token", given, SCOPES, Secret(SECRET)).expires_in == 300


def test_a_server_that_echoes_the_secret_is_not_quoted() -> None:
    echo = answer(400, {"error": "invalid_client", "error_description": f"bad secret {SECRET}"})
    with pytest.raises(AuthorityError, match="invalid_client") as fault:
        read_token_answer("https://a.example/token", echo, SCOPES, Secret(SECRET))
    assert SECRET not in fault.value.text


def test_a_description_is_one_harmless_line() -> None:
    nasty = answer(400, {"error": "invalid_client", "error_description": "a\r\nb\x1b[31m" + "x" * 1000})
    with pytest.raises(AuthorityError) as fault:
        read_token_answer("https://a.example/token", nasty, SCOPES, Secret(SECRET))
    assert fault.value.text.isprintable()
    assert len(fault.value.text) < 300


@pytest.mark.parametrize("word", ["temporarily_unavailable", "server_error"])
def test_an_authority_that_blames_itself_is_tried_again(word: str) -> None:
    with pytest.raises(AuthorityError) as fault:
        read_token_answer("https://a.example/token", answer(400, {"error": word}), SCOPES, Secret(SECRET))
    assert fault.value.reason is Reason.AUTHORITY_ERROR


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7), ("0", 0), ("-5", 0), ("soon", 0), ("99999999", 3600), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)
def test_retry_after_in_all_its_forms(given: str, seconds: float) -> None:
    assert Answer(429, {"retry-after": given}, b"").retry_after == seconds


@pytest.fixture
def loop() -> Iterator[SideLoop]:
    made = SideLoop("test")
    made.start()
    yield made
    made.stop()


def next_message(loop: SideLoop) -> Message:
    ready, _, _ = select.select([loop], [], [], 20)
    assert ready, "nothing was posted"
    [(asker, message)] = loop.drain()
    assert asker is None
    return message


def test_the_source_posts_one_outcome_with_its_ticket(
    loop: SideLoop, oauth2: OAuth2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HttpTokenSource(loop, KeyedSecrets(str(tmp_path / "key"), "c1"))
    referring = replace(oauth2, client_secret="env:ENTGLDB_TEST_SECRET")
    monkeypatch.setenv("ENTGLDB_TEST_SECRET", SECRET)
    source.request("cloud-1", 7, referring)
    issued = next_message(loop)
    assert isinstance(issued, TokenIssued)
    assert (issued.node_id, issued.ticket, issued.expires_in) == ("cloud-1", 7, 300)
    monkeypatch.delenv("ENTGLDB_TEST_SECRET")
    source.request("cloud-1", 8, referring)
    failed = next_message(loop)
    assert isinstance(failed, TokenFailed)
    assert (failed.ticket, failed.reason) == (8, Reason.SECRET_MISSING.value)
    assert SECRET not in failed.text
