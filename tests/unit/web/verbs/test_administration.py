"""An operator's work by HTTP on a real node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.web.serving import served
from tests.unit.web.test_http import one, refused

pytestmark = pytest.mark.slow
CLOUD = {
    "address": "cloud.example:7700",
    "authority": "https://id.example",
    "client_id": "shop",
    "client_secret": "env:SHOP_SECRET",
}


@pytest.fixture(scope="module")
def http(directory: Path) -> Iterator[httpx.Client]:
    with served(directory) as client:
        yield client


def eventually(look: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_history_is_told_and_a_deleted_document_comes_back(http: httpx.Client) -> None:
    for body in ({"n": 1}, {"n": 2}):
        assert http.put(one("users", "u1"), json=body).status_code == 200
    http.delete(one("users", "u1"))
    past = http.get("/v1/collections/users/history/u1").json()["versions"]
    assert [(row["op"], row["document"]) for row in past] == [
        ("delete", None),
        ("put", {"n": 2}),
        ("put", {"n": 1}),
    ]
    assert past[0]["parent"] == past[1]["version"]
    version = http.post("/v1/collections/users/undelete/u1").json()["version"]
    assert http.get(one("users", "u1")).headers["etag"] == f'"{version}"'
    refused(http.post("/v1/collections/users/undelete/u1"), 409, "already-exists")


def test_conflicts_are_listed_and_what_is_none_is_refused(http: httpx.Client) -> None:
    assert http.get("/v1/conflicts", params={"collection": "users"}).json() == {
        "conflicts": [],
        "more": False,
    }
    place = "/v1/collections/users/resolve/u1"
    decision = {"version": "lan-9/" + "0" * 32 + ":1", "take": "loser"}
    refused(http.post(place, json=decision), 404, "not-found")
    refused(http.post(place, json={**decision, "take": "both"}), 400, "invalid")
    refused(http.post(place, json={**decision, "version": "x"}), 400, "invalid")


def test_a_rule_is_set(http: httpx.Client) -> None:
    place = "/v1/collections/stock/rule"
    assert http.get(place).json() == {"conflict": "lww"}
    assert http.put(place, json={"conflict": "merge"}).json() == {"changed": True}
    assert http.get(place).json() == {"conflict": "merge"}
    refused(http.put(place, json={"conflict": "guess"}), 400, "invalid")
    refused(http.put(place, json={}), 400, "invalid")


def test_an_index_is_made_listed_and_dropped(http: httpx.Client) -> None:
    place = "/v1/collections/users/indexes"
    name = http.post(place, json={"paths": ["city", "-n"], "unique": True}).json()["name"]
    eventually(lambda: [row["name"] for row in http.get(place).json()["indexes"]] == [name])
    assert http.delete(f"{place}/{name}").status_code == 204
    refused(http.delete(f"{place}/{name}"), 404, "not-found")
    refused(http.post(place, json={"paths": 5}), 400, "invalid")
    refused(http.post(place, json={"paths": ["a"], "size": 1}), 400, "invalid")


def test_remote_peers_are_added_changed_and_removed_and_secrets_never_told(http: httpx.Client) -> None:
    assert http.put("/v1/peers/cloud-1", json=CLOUD).status_code == 201
    (peer,) = http.get("/v1/peers").json()["peers"]
    assert (peer["type"], peer["enabled"], peer["client_id"], peer["has_secret"]) == (
        "cloud",
        True,
        "shop",
        True,
    )
    assert "SHOP_SECRET" not in http.get("/v1/peers").text
    assert http.put("/v1/peers/cloud-1", json={"enabled": False}).json() == {"changed": True}
    assert http.put("/v1/peers/cloud-1", json={"enabled": False}).json() == {"changed": False}
    assert http.put("/v1/peers/lan-9", json={"address": "10.0.0.9:7700"}).status_code == 201
    for body in ({"authority": "https://id.example"}, {"enabled": True}, {"address": 5}, {"port": 1}):
        refused(http.put("/v1/peers/new", json=body), 400, "invalid")
    for rate in (-1, 2**53, True, 1.5):
        refused(http.put("/v1/peers/cloud-1", json={"max_rate": rate}), 400, "invalid")
    long = {"scopes": ["x"] * 100_000}
    assert http.put("/v1/peers/cloud-1", json=long).status_code in (400, 413)
    place = "/v1/peers/cloud-1/_rotate_secret"
    assert http.get("/v1/members").json()["secrets"][0]["changes_over_until"] is None
    assert http.post(place, json={"client_secret": "n3w", "overlap_seconds": 60}).json() == {"changed": True}
    assert http.get("/v1/members").json()["secrets"][0]["changes_over_until"] > 0
    assert "n3w" not in http.get("/v1/peers").text
    for body in ({}, {"client_secret": 5}, {"client_secret": "x", "a": 1}, {"client_secret": "n3w"}):
        refused(http.post(place, json=body), 400, "invalid")
    for seconds in (0, 2_592_001, True):
        refused(http.post(place, json={"client_secret": "x", "overlap_seconds": seconds}), 400, "invalid")
    assert http.delete("/v1/peers/cloud-1").status_code == 204
    refused(http.delete("/v1/peers/cloud-1"), 404, "not-found")
    refused(http.post("/v1/peers/cloud-1/_test"), 404, "not-found")
    http.delete("/v1/peers/lan-9")


def test_nodes_and_status_are_told(http: httpx.Client) -> None:
    eventually(lambda: [row["node_id"] for row in http.get("/v1/nodes").json()["nodes"]] == ["lan-1"])
    assert http.get("/v1/status").json()["store"]["documents"] >= 1
    refused(http.post("/v1/nodes/lan-1/_retire"), 400, "invalid")
    refused(http.post("/v1/nodes/nobody/_retire"), 404, "not-found")
