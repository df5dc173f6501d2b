"""The name of a request: in its answer, and beside its versions in the log of the node."""

from __future__ import annotations

import functools
from pathlib import Path

import httpx
import pytest

from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.playground.cluster import wait_for
from tests.unit.web.serving import served

pytestmark = pytest.mark.slow
LOG_SECONDS = 10.0


def test_every_answer_has_the_name_of_its_request(directory: Path, db: Database) -> None:
    with served(directory) as http:
        asked = http.get("/healthz", headers={"X-Request-ID": "order-17/a"})
        assert asked.headers["x-request-id"] == "order-17/a"
        missing = http.get("/v1/nothing", headers={"X-Request-ID": "order-18"})
        assert (missing.status_code, missing.headers["x-request-id"]) == (404, "order-18")
        strange = http.get("/healthz", headers={"Host": "elsewhere.example", "X-Request-ID": "order-19"})
        assert (strange.status_code, strange.headers["x-request-id"]) == (400, "order-19")
        made = {
            http.get("/healthz", headers=given).headers["x-request-id"]
            for given in ({}, {"X-Request-ID": "a b"}, {"X-Request-ID": "x" * 129}, {"X-Request-ID": ""})
        }
        assert len(made) == 4
        assert all(len(name) == 16 and int(name, 16) >= 0 for name in made)
        assert run(command, ["log-level", "debug", "-d", str(directory)]) == 0
        try:
            _follow(http, directory)
        finally:
            assert run(command, ["log-level", "configured", "-d", str(directory)]) == 0


def _follow(http: httpx.Client, directory: Path) -> None:
    """Writes of each kind, each by its name to a line of the log with its version."""
    place, batch = "/v1/collections/named/documents/k", {"op": "delete", "collection": "named", "key": "k"}
    answers = [
        http.put(place, json={"n": 1}, headers={"X-Request-ID": "put-1"}),
        http.patch(place, json={"$inc": {"n": 1}}, headers={"X-Request-ID": "patch-2"}),
        http.post("/v1/_batch", json={"writes": [batch]}, headers={"X-Request-ID": "batch-3"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    log = directory / "log" / "entgldb.log"
    for answer in answers:
        name = f"('{answer.headers['x-request-id']}') is committed as "
        line = wait_for(name, functools.partial(_line, log, name), LOG_SECONDS)
        told = answer.json()
        origin, _, number = (told.get("version") or told["versions"][0]).rpartition(":")
        assert f"{name}{origin} {number}, lsn" in line


def _line(log: Path, words: str) -> str:
    """The last line that has them; empty where there is none yet."""
    return next((line for line in reversed(log.read_text().splitlines()) if words in line), "")
