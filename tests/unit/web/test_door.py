"""Who is let in: hosts and origins, tokens and their scopes, places beyond loopback."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.child import environment
from entgldb.messages.errors import ConfigError, EntglError, InvalidError, NotAllowedError, NotFoundError
from entgldb.messages.secret import Secret
from entgldb.web.door import tokens as tokens_module
from entgldb.web.door.guard import scope_of
from entgldb.web.door.place import Place, read_place
from entgldb.web.door.tokens import FILE, Tokens
from tests.unit.actors.gateway.server_certificate import issue_server_certificate
from tests.unit.web.serving import served


def test_a_token_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    made = tokens.add("grafana", "read", ["b", "a"], 7)
    text = (tmp_path / FILE).read_text()
    assert made.text() not in text
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    (kept,) = Tokens(tmp_path).all()
    assert (kept.name, kept.scope, kept.collections, kept.at_ms) == ("grafana", "read", ("a", "b"), 7)


def test_a_token_is_good_for_its_scope_and_its_collections(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    reads, writes = tokens.add("r", "read", [], 0), tokens.add("w", "write", ["users"], 0)
    assert tokens.admit(reads, "read", "users").name == "r"
    assert tokens.admit(writes, "read", "users").name == tokens.admit(writes, "write", "users").name == "w"
    for token, scope, collection in (
        (reads, "write", "users"),
        (writes, "admin", "users"),
        (writes, "write", "orders"),
        (writes, "read", None),
    ):
        with pytest.raises(NotAllowedError):
            tokens.admit(token, scope, collection)
    with pytest.raises(EntglError, match="not known"):
        tokens.admit(Secret("x" * 43), "read", None)
    Tokens(tmp_path).revoke("r")
    with pytest.raises(EntglError, match="not known"):
        tokens.admit(reads, "read", "users")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/collections/c/documents/k", "read"),
        ("GET", "/v1/backup", "admin"),
        ("POST", "/v1/collections/c/_find", "read"),
        ("POST", "/v1/collections/_find/_count", "read"),
        ("POST", "/v1/collections/c/documents", "write"),
        ("POST", "/v1/_batch", "write"),
        ("POST", "/v1/verify", "admin"),
        # a key or name may be whatever a path ends with
        ("PUT", "/v1/collections/c/documents/_find", "write"),
        ("PATCH", "/v1/collections/c/documents/a/_count", "write"),
        ("DELETE", "/v1/collections/c/documents/_distinct", "write"),
        ("POST", "/v1/collections/c/resolve/_aggregate", "write"),
        ("POST", "/v1/collections/c/undelete/a/_find", "write"),
        ("DELETE", "/v1/collections/c/indexes/_find", "write"),
        ("PUT", "/v1/collections/c/_find", "write"),
        ("PUT", "/v1/peers/_find", "admin"),
        ("POST", "/v1/actors/_find", "admin"),
    ],
)
def test_what_only_reads_is_told_by_the_whole_path_and_its_method(method: str, path: str, scope: str) -> None:
    assert scope_of(method, path) == scope


def test_what_is_no_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(tmp_path)
    tokens.add("a", "read", [], 0)
    for name, scope in (("", "read"), ("a b", "read"), ("b", "root")):
        with pytest.raises(InvalidError):
            tokens.add(name, scope, [], 0)
    with pytest.raises(EntglError, match="is there"):
        tokens.add("a", "write", [], 0)
    with pytest.raises(NotFoundError):
        tokens.revoke("b")
    monkeypatch.setattr(tokens_module, "TOKENS_MAX", 1)
    with pytest.raises(InvalidError, match="1 tokens are there"):
        tokens.add("b", "read", [], 0)
    (tmp_path / FILE).write_text('[{"name": "a"}]')
    with pytest.raises(ConfigError, match="holds no tokens"):
        Tokens(tmp_path).all()


@pytest.mark.parametrize(
    ("listen", "place", "loopback"),
    [
        ("127.0.0.1:80", Place("127.0.0.1", 80), True),
        ("[::1]:0", Place("::1", 0), True),
        ("localhost:1", Place("localhost", 1), True),
        ("0.0.0.0:1", Place("0.0.0.0", 1), False),
        ("10.0.0.1:1", Place("10.0.0.1", 1), False),
        ("shop.example:1", Place("shop.example", 1), False),
    ],
)
def test_a_place_and_whether_others_reach_it(listen: str, place: Place, loopback: bool) -> None:
    assert (read_place(listen), read_place(listen).is_loopback) == (place, loopback)


@pytest.mark.parametrize(
    ("listen", "here"),
    [
        ("127.0.0.1:1", True),
        ("0.0.0.0:1", True),
        ("[::]:1", True),
        ("10.0.0.1:1", False),
        ("shop.example:1", False),
    ],
)
def test_a_server_that_this_machine_reaches_by_loopback_is_called_so(listen: str, here: bool) -> None:
    place = read_place(listen)
    assert listen.rpartition(":")[0] in place.hosts()
    assert ("localhost" in place.hosts()) is here
    assert "shop" in place._replace(names=("shop",)).hosts()


@pytest.mark.parametrize("listen", ["", "8080", "host:", "host:x", "host:70000"])
def test_what_is_no_place(listen: str) -> None:
    with pytest.raises(ConfigError):
        read_place(listen)


def refused_to_serve(directory: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "entgldb", "serve", "-d", str(directory), *options],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_nobody_is_served_beyond_loopback_without_tls_and_a_token(tmp_path: Path) -> None:
    made = issue_server_certificate(tmp_path)
    tls = ("--tls-cert", str(made.certificate), "--tls-key", str(made.key))
    assert "there is no TLS" in refused_to_serve(tmp_path, "--listen", "0.0.0.0:0")
    assert "there is no token" in refused_to_serve(tmp_path, "--listen", "0.0.0.0:0", *tls)
    assert run(command, ["http-token", "add", "till", "-d", str(tmp_path), "--scope", "write"]) == 0
    token = Tokens(tmp_path).add("reader", "read", [], 0)
    trust = ssl.create_default_context(cadata=made.ca_pem)
    with served(tmp_path, "--listen", "0.0.0.0:0", *tls, verify=trust) as anywhere:
        base = f"https://localhost:{anywhere.base_url.port}"
        with httpx.Client(base_url=base, verify=trust, timeout=20) as http:
            assert http.get("/healthz").status_code == 200
            without = http.get("/v1/collections")
            assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
            bearer = {"Authorization": f"Bearer {token.text()}"}
            # there is no node in this directory: the door was open
            assert http.get("/v1/collections", headers=bearer).status_code == 503
            assert http.post("/v1/collections/c/_find", json={}, headers=bearer).status_code == 503
            assert http.put("/v1/collections/c/documents/k", json={}, headers=bearer).status_code == 403
            assert http.get("/healthz", headers={"Host": "other"}).status_code == 400
            Tokens(tmp_path).revoke("reader")
            assert http.get("/v1/collections", headers=bearer).status_code == 401


@pytest.mark.slow
def test_on_loopback_a_token_is_asked_for_where_that_is_wanted(tmp_path: Path) -> None:
    assert "asks for a token, and there is no token" in refused_to_serve(tmp_path, "--tokens")
    token = Tokens(tmp_path).add("reader", "read", [], 0)
    with served(tmp_path, "--tokens") as http:
        assert http.get("/v1/collections").status_code == 401
        bearer = {"Authorization": f"Bearer {token.text()}"}
        # there is no node in this directory: the door was open
        assert http.get("/v1/collections", headers=bearer).status_code == 503


@pytest.mark.slow
def test_a_page_of_another_site_is_not_served(tmp_path: Path) -> None:
    with served(tmp_path) as http:
        assert http.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
        assert http.get("/healthz", headers={"Origin": "http://evil.example"}).status_code == 403
        own = f"http://{http.base_url.netloc.decode()}"
        assert http.get("/healthz", headers={"Origin": own}).status_code == 200


def test_tokens_are_listed_without_their_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["-d", str(tmp_path)]
    assert run(command, ["http-token", "add", "a", *where, "--collection", "c", "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    assert run(command, ["http-token", "list", *where, "--json"]) == 0
    out = capsys.readouterr().out
    (row,) = json.loads(out)["tokens"]
    assert (row["name"], row["scope"], row["collections"]) == ("a", "read", ["c"])
    assert token not in out
    assert "digest" not in out
    assert run(command, ["http-token", "list", *where]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "read", "c"]
    assert run(command, ["http-token", "revoke", "a", *where]) == 0
    assert run(command, ["http-token", "revoke", "a", *where]) == 3
