"""An operator's questions by HTTP, to a real node that has no troubles."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.one_node import one_node
from tests.unit.web.serving import served
from tests.unit.web.test_http import one, refused

pytestmark = pytest.mark.slow
NOBODY = "lan-9/" + "0" * 32


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with one_node(tmp_path_factory) as directory, served(directory) as client:
        yield client


def test_why_tells_of_a_document_where_it_is_and_what_became_of_it(http: httpx.Client) -> None:
    http.put(one("users", "a/b"), json={"n": 1})
    told = http.get("/v1/collections/users/why/a%2Fb").json()
    assert (told["collection"], told["key"], told["node_id"]) == ("users", "a/b", "lan-1")
    assert told["nodes"][0] == {"node_id": "lan-1", "here": True, "has": True, "reason": None}
    assert [(row["op"], row["shown"]) for row in told["versions"]] == [("put", True)]
    http.delete(one("users", "a/b"))
    assert http.get("/v1/collections/users/why/a%2Fb").json()["nodes"][0]["reason"] == "deleted"
    assert http.get("/v1/collections/users/why/none").json()["versions"] == []
    refused(http.get("/v1/collections/_users/why/a"), 400, "invalid")


def test_a_node_without_troubles_has_nothing_to_decide(http: httpx.Client) -> None:
    for what in ("held", "quarantine", "forks"):
        assert http.get(f"/v1/{what}").json() == {what: []}
    unknown = {"origin": NOBODY}
    refused(http.post("/v1/held/_release", json=unknown), 404, "not-found")
    refused(http.post("/v1/forks/_heal", json={**unknown, "keep": "ours"}), 404, "not-found")
    refused(http.post("/v1/quarantine/_settle", json={**unknown, "seq": 1, "take": "drop"}), 404, "not-found")


def test_a_decision_that_says_too_little_is_refused(http: httpx.Client) -> None:
    for place, body in (
        ("held/_release", {}),
        ("forks/_heal", {"origin": NOBODY}),
        ("forks/_heal", {"origin": NOBODY, "keep": "both"}),
        ("quarantine/_settle", {"origin": NOBODY, "seq": True, "take": "drop"}),
        ("quarantine/_settle", {"origin": NOBODY, "seq": 2**53, "take": "drop"}),
        ("verify", {"peer": 5}),
    ):
        refused(http.post(f"/v1/{place}", json=body), 400, "invalid")


def test_a_comparison_is_begun_and_told(http: httpx.Client) -> None:
    assert http.get("/v1/verify").json() == {"peers": []}
    begun = http.post("/v1/verify", json={})
    assert (begun.status_code, begun.json()) == (202, {"runs": {}})
    refused(http.post("/v1/verify", json={"peer": "lan-9"}), 404, "not-found")
