"""The development authority and check-token, as processes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.actors.oauth.client import fetch_token
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.secret import Secret
from tests.unit.actors.oauth.authority_process import SOURCE, AuthorityProcess

CHECK = "from entgldb.launch.cli.trials.check_token import check_token; check_token()"


@pytest.fixture(scope="module")
def authority() -> Iterator[AuthorityProcess]:
    with AuthorityProcess("gw:s3cret") as made:
        yield made


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.code, json.loads(fault.read())


def check_token(token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHECK, *arguments],
        input=token,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def issue(authority: AuthorityProcess, **settings: Any) -> str:
    given = {"audience": "cloud", **settings}
    return asyncio.run(fetch_token(OAuth2(authority.url, "gw", **given), Secret("s3cret"))).text


def test_metadata_names_the_issuer_and_what_it_can_do(authority: AuthorityProcess) -> None:
    url = f"{authority.url}/.well-known/oauth-authorization-server"
    with urllib.request.urlopen(url, timeout=5) as answer:
        found = json.loads(answer.read())
    assert found["issuer"] == authority.url
    assert found["grant_types_supported"] == ["client_credentials"]
    assert found["jwks_uri"] == f"{authority.url}/jwks"


def test_the_key_set_holds_no_private_key(authority: AuthorityProcess) -> None:
    with urllib.request.urlopen(f"{authority.url}/jwks", timeout=5) as answer:
        keys = json.loads(answer.read())["keys"]
    assert keys
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in keys)


def test_credentials_may_come_in_a_header(authority: AuthorityProcess) -> None:
    pair = base64.b64encode(b"gw:s3cret").decode()
    body = b"grant_type=client_credentials"
    form = "application/x-www-form-urlencoded"
    url = f"{authority.url}/token"
    status, found = post(url, body, Content_Type=form, Authorization=f"Basic {pair}")
    assert (status, found["token_type"], found["scope"]) == (200, "Bearer", "entgldb:sync")
    assert post(url, body, Content_Type=form, Authorization="Basic !!!")[0] == 401


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"grant_type=password&client_id=gw&client_secret=s3cret", "unsupported_grant_type"),
        (b"client_id=gw&client_secret=s3cret", "invalid_request"),
        (b"grant_type=client_credentials&client_id=gw&client_secret=wrong", "invalid_client"),
        (b"grant_type=client_credentials&client_id=nobody&client_secret=s3cret", "invalid_client"),
        (b"grant_type=client_credentials&client_id=gw&client_secret=s3cret&scope=root", "invalid_scope"),
        (b"grant_type=client_credentials", "invalid_client"),
    ],
)
def test_a_bad_request_is_refused_in_a_word(authority: AuthorityProcess, body: bytes, error: str) -> None:
    before = authority.control()["issued"]
    status, found = post(f"{authority.url}/token", body, Content_Type="application/x-www-form-urlencoded")
    assert status in (400, 401)
    assert found["error"] == error
    assert authority.control()["issued"] == before


def test_controls_count_and_change(authority: AuthorityProcess) -> None:
    before = authority.control()
    issue(authority)
    after = authority.control(rotate=True)
    assert after["issued"] == before["issued"] + 1
    assert after["kid"] != before["kid"]
    authority.control(client={"id": "gw", "secret": "new"})
    status, _ = post(
        f"{authority.url}/token", b"grant_type=client_credentials&client_id=gw&client_secret=new"
    )
    authority.control(client={"id": "gw", "secret": "s3cret"})
    # without the form's content type oauthlib still reads a body that is one
    assert status == 200


def test_controls_refuse_what_they_do_not_know(authority: AuthorityProcess) -> None:
    url = f"{authority.url}/control"
    assert post(url, b'{"mode": "odd"}', Content_Type="application/json")[0] == 400
    assert post(url, b'{"odd": 1}', Content_Type="application/json")[0] == 400
    assert post(url, b"mode=down", Content_Type="application/x-www-form-urlencoded")[0] == 415
    assert authority.control()["mode"] == "ok"


def test_a_client_is_made_up_when_none_is_given() -> None:
    with AuthorityProcess() as made:
        [(client_id, secret)] = made.facts["clients"].items()
        token = asyncio.run(fetch_token(OAuth2(made.url, client_id), Secret(secret)))
        assert token.expires_in == 300


def test_it_ends_in_good_order() -> None:
    made = AuthorityProcess("gw:s3cret")
    assert made.stop() == 0


def test_it_ends_with_its_parent() -> None:
    """The parent here is a shell that is killed; the end shows at the pipe, which the server alone holds."""
    code = "from entgldb.launch.playground.dev_authority import dev_authority; dev_authority()"
    shell = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -c '{code}' --json --with-parent & wait"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert shell.stdout is not None
    with shell.stdout as pipe:
        assert json.loads(pipe.readline())["authority"]
        shell.kill()
        shell.wait(5)
        assert pipe.read() == b""


def test_check_token_says_whom_a_token_is_for(authority: AuthorityProcess) -> None:
    token = issue(authority)
    asked = ("--authority", authority.url, "--audience", "cloud")
    plain = check_token(token + "\n", *asked)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout.startswith("accepted: client gw, scope entgldb:sync, until ")
    found = json.loads(check_token(token, *asked, "--allow-client", "gw", "--json").stdout)
    assert (found["schema_version"], found["accepted"], found["client_id"]) == (1, True, "gw")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--audience", "other"), "Audience"),
        (("--audience", "cloud", "--scope", "root"), "lacks the scope root"),
        (("--audience", "cloud", "--allow-client", "x"), "not on the list"),
    ],
)
def test_check_token_says_why_a_token_is_refused(
    authority: AuthorityProcess, arguments: tuple[str, ...], reason: str
) -> None:
    token = issue(authority)
    refused = check_token(token, "--authority", authority.url, *arguments)
    assert (refused.returncode, refused.stdout) == (6, "")
    assert refused.stderr.startswith("token-refused: ")
    assert reason in refused.stderr
    assert token not in refused.stderr
    found = json.loads(check_token(token, "--authority", authority.url, *arguments, "--json").stdout)
    assert (found["accepted"], found["reason"]) == (False, "token-refused")


@pytest.mark.parametrize("text", ["", "nonsense", "x" * 20_000])
def test_check_token_refuses_what_is_no_token(authority: AuthorityProcess, text: str) -> None:
    refused = check_token(text, "--authority", authority.url, "--audience", "cloud")
    assert refused.returncode == 6


def test_check_token_wants_a_safe_authority() -> None:
    refused = check_token("x", "--authority", "http://id.example", "--audience", "cloud")
    assert refused.returncode == 2
    assert "--authority" in refused.stderr
