"""Membership by HTTP: members, expelling, and an invitation by which one machine joins."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from entgldb.launch.joining.code import Code, read_code
from entgldb.launch.node.init import Plan, init
from entgldb.messages.limits import INVITATION_MINUTES_MAX, INVITATION_MINUTES_MIN
from tests.support.one_node import one_node
from tests.unit.web.serving import served
from tests.unit.web.test_http import refused
from tests.unit.web.verbs.test_administration import eventually

pytestmark = pytest.mark.slow
PLACE = "/v1/invitation"
HERE = {"at": "127.0.0.1"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with one_node(tmp_path_factory) as directory, served(directory) as client:
        yield client


@pytest.fixture
def closed(http: httpx.Client) -> Iterator[httpx.Client]:
    """A client; no invitation is left open."""
    yield http
    assert http.delete(PLACE).status_code == 204


def entgldb(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "entgldb", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_node_that_is_no_member_and_the_node_itself_are_not_expelled(http: httpx.Client) -> None:
    refused(http.post("/v1/members/lan-1/_expel"), 400, "invalid")
    refused(http.post("/v1/members/nobody/_expel"), 404, "not-found")


def test_a_new_cluster_key_is_made(http: httpx.Client) -> None:
    assert http.post("/v1/members/_rotate_key").json() == {"changed": True}
    eventually(lambda: http.get("/v1/status").json()["sync"]["cluster_key"])


def test_a_machine_joins_by_the_code_alone_and_the_log_tells_who_invited_it(
    closed: httpx.Client, tmp_path: Path
) -> None:
    made = closed.post(PLACE, json={**HERE, "for": "till-3", "minutes": 5})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["qr"].startswith("<svg")
    assert closed.get(PLACE).json() == {"state": "open"}
    done = entgldb("init", "-d", str(tmp_path / "n3"), "--join", made.json()["code"])
    assert done.returncode == 0, done.stderr
    eventually(lambda: closed.get(PLACE).json()["state"] == "joined")
    assert closed.get(PLACE).json()["node_id"] == "till-3"
    rows = {row["event"]: row for row in closed.get("/v1/audit").json()["rows"]}
    assert rows["invited"]["who"].startswith("http 127.0.0.1 by uid")
    assert rows["joined"]["subject"] == "till-3"


def test_an_invitation_is_withdrawn_and_its_code_is_worth_nothing(
    closed: httpx.Client, tmp_path: Path
) -> None:
    code = closed.post(PLACE, json=HERE).json()["code"]
    refused(closed.post(PLACE, json=HERE), 503, "busy")
    assert closed.delete(PLACE).status_code == 204
    assert closed.get(PLACE).json() == {"state": "ended", "reason": "it was withdrawn"}
    late = entgldb("init", "-d", str(tmp_path / "n3"), "--join", code)
    assert late.returncode != 0
    assert "is the invitation still open there" in late.stderr


def test_an_invitation_that_cannot_be_is_refused_by_name(closed: httpx.Client) -> None:
    for body, named in (
        ({"four": "till-3"}, "four"),
        ({"for": 5}, "texts"),
        ({"minutes": True}, "minutes"),
        ({"minutes": INVITATION_MINUTES_MIN / 2}, "minutes"),
        ({"minutes": INVITATION_MINUTES_MAX + 1}, "minutes"),
        ({"for": "a b"}, "for"),
        # what the command refuses
        ({"for": "", "at": "192.0.2.7"}, "192.0.2.7"),
        ({"at": "--help"}, "--help"),
    ):
        assert named in refused(closed.post(PLACE, json=body), 400, "invalid")["detail"]
    assert closed.post(PLACE, json=HERE).status_code == 201


def test_an_invitation_ends_with_its_server(tmp_path: Path) -> None:
    init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1"))
    with served(tmp_path / "n1") as client:
        code = read_code(client.post(PLACE, json=HERE).json()["code"])
        assert listens(code)
    eventually(lambda: not listens(code))


def listens(code: Code) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((code.host, code.port)) == 0
