"""Documents, feeds and health by HTTP, of a real node by a real server process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import entgldb
from entgldb.launch.node.process import start_detached, stop_node
from tests.unit.web.serving import served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(directory: Path) -> Iterator[httpx.Client]:
    with served(directory) as client:
        yield client


def one(collection: str, key: str) -> str:
    return f"/v1/collections/{collection}/documents/{key}"


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer tells, which is of that status and code."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == f"urn:entgldb:{code}"
    return body


def test_a_document_is_put_got_changed_and_deleted(http: httpx.Client) -> None:
    place = one("users", "u1")
    refused(http.get(place), 404, "not-found")
    made = http.put(place, json={"name": "Ada", "n": 1})
    assert (made.status_code, made.headers["etag"]) == (200, f'"{made.json()["version"]}"')
    got = http.get(place)
    assert (got.json(), got.headers["etag"]) == ({"name": "Ada", "n": 1}, made.headers["etag"])
    assert http.get(place, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    assert http.patch(place, json={"$inc": {"n": 2}}).status_code == 200
    assert http.get(place).json() == {"name": "Ada", "n": 3}
    assert http.delete(place).status_code == 204
    refused(http.delete(place), 404, "not-found")
    refused(http.patch(place, json={"$set": {"a": 1}}), 404, "not-found")
    assert http.patch(place, params={"upsert": "true"}, json={"$set": {"a": 1}}).status_code == 200


def test_a_write_for_another_version_is_refused(http: httpx.Client) -> None:
    place = one("users", "versions")
    first = http.put(place, json={"n": 1}, headers={"If-None-Match": "*"})
    assert first.status_code == 201
    refused(http.put(place, json={"n": 2}, headers={"If-None-Match": "*"}), 412, "already-exists")
    tag = {"If-Match": first.headers["etag"]}
    assert http.put(place, json={"n": 2}, headers=tag).status_code == 200
    for late in (
        http.put(place, json={"n": 3}, headers=tag),
        http.patch(place, json={"$inc": {"n": 1}}, headers=tag),
        http.delete(place, headers=tag),
    ):
        refused(late, 412, "version-mismatch")
    assert http.get(place).json() == {"n": 2}


WRITES: dict[str, dict[str, Any]] = {
    "PUT": {"json": {"n": 1}},
    "PATCH": {"json": {"$inc": {"n": 1}}, "params": {"upsert": "true"}},
    "DELETE": {},
}


@pytest.mark.parametrize("method", WRITES)
def test_a_write_is_for_any_version_or_for_none(http: httpx.Client, method: str) -> None:
    place, how = one("any", method), WRITES[method]
    there, none = {"If-Match": "*"}, {"If-None-Match": "*"}
    refused(http.request(method, place, headers=there, **how), 412, "version-mismatch")
    refused(http.get(place), 404, "not-found")
    made = http.request(method, place, headers=none, **how)
    assert made.status_code == {"PUT": 201, "PATCH": 200, "DELETE": 404}[method]
    http.put(place, json={"n": 1})
    refused(http.request(method, place, headers=none, **how), 412, "already-exists")
    assert http.request(method, place, headers=there, **how).status_code == (
        204 if method == "DELETE" else 200
    )
    assert http.get(place).status_code == (404 if method == "DELETE" else 200)


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "W/x"},
        {"If-Match": ""},
        {"If-Match": '"*"'},
        {"If-Match": '"lan-1/a:1", "lan-1/a:2"'},
        {"If-None-Match": '"lan-1/a:1"'},
        {"If-None-Match": "*", "If-Match": "*"},
    ],
)
def test_a_condition_that_is_none_of_a_write_is_refused(
    http: httpx.Client, method: str, headers: dict[str, str]
) -> None:
    """Left out of account, it would let the write through."""
    told = refused(http.request(method, one("any", "odd"), headers=headers, **WRITES[method]), 400, "invalid")
    assert "Match" in told["detail"]
    refused(http.get(one("any", "odd")), 404, "not-found")


def test_a_reader_has_what_it_names(http: httpx.Client) -> None:
    place = one("users", "read")
    tag = http.put(place, json={"n": 1}).headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        assert http.get(place, headers={"If-None-Match": known}).status_code == 304, known
    for wanted in (tag, f'"x", {tag}', "*"):
        assert http.get(place, headers={"If-Match": wanted}).json() == {"n": 1}, wanted
    assert http.get(place, headers={"If-None-Match": '"x"', "If-Match": "*"}).status_code == 200
    for other in ('"x"', f"W/{tag}"):
        refused(http.get(place, headers={"If-Match": other}), 412, "version-mismatch")


def test_a_write_that_did_not_go_as_far_as_asked_says_what_is_done(http: httpx.Client) -> None:
    asked = {"ack": "peers:1", "ack_timeout": "0"}
    place, many = one("acked", "a"), "/v1/collections/acked"
    for method, path, body, made in (
        ("PUT", place, {"n": 1}, {}),
        ("PATCH", place, {"$inc": {"n": 1}}, {}),
        ("DELETE", place, None, {}),
        ("POST", f"{many}/documents", {"n": 2}, {}),
        ("POST", f"{many}/_bulk", {"documents": {"b": {}, "c": {}}}, {"stored": 2}),
        ("POST", "/v1/_batch", {"writes": [{"op": "delete", "collection": "acked", "key": "b"}]}, {}),
    ):
        told = refused(http.request(method, path, json=body, params=asked), 504, "not-spread")
        assert told["definite"]
        assert (told["durable"], told["missing"], len(told["versions"])) == ([], [], made.get("stored", 1))
        assert told.get("stored") == made.get("stored")
        if path.endswith("/documents"):
            assert http.get(one("acked", told["key"])).json() == {"n": 2}
        elif method == "PUT":
            assert http.get(place).headers["etag"] == f'"{told["versions"][0]}"'
    assert http.post(f"{many}/_count", json={}).json() == {"count": 2}


@pytest.mark.parametrize(
    "asked",
    [
        *({"ack": ack} for ack in ("", "peers:0", "peers:two", "peers:", ",")),
        *({"ack": "all", "ack_timeout": seconds} for seconds in ("-1", "soon", "0.5", "301")),
    ],
)
def test_an_ack_that_says_nothing_is_refused_before_the_write(
    http: httpx.Client, asked: dict[str, str]
) -> None:
    writes = {"writes": [{"op": "put", "collection": "acked", "key": "no", "document": {}}]}
    for method, path, body in (
        ("PUT", one("acked", "no"), {}),
        ("PATCH", one("acked", "no"), {"$set": {"n": 1}}),
        ("DELETE", one("acked", "no"), None),
        ("POST", "/v1/collections/acked/documents", {}),
        ("POST", "/v1/collections/acked/_bulk", {"documents": {"no": {}}}),
        ("POST", "/v1/_batch", writes),
    ):
        refused(http.request(method, path, json=body, params=asked), 400, "invalid")
    refused(http.get(one("acked", "no")), 404, "not-found")


def test_a_write_that_is_sent_again_is_done_once(http: httpx.Client) -> None:
    place, named = one("users", "again"), {"Idempotency-Key": "order 17"}
    http.put(place, json={"n": 0})
    versions = {http.patch(place, json={"$inc": {"n": 1}}, headers=named).json()["version"] for _ in range(3)}
    assert len(versions) == 1
    assert http.get(place).json() == {"n": 1}


def test_an_insert_that_is_sent_again_is_done_once_and_has_one_key_on_any_node(http: httpx.Client) -> None:
    place, named = "/v1/collections/orders/documents", {"Idempotency-Key": "checkout 9"}
    first, second = (http.post(place, json={"n": 1}, headers=named) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert http.post("/v1/collections/orders/_count", json={}).json() == {"count": 1}
    # by its name alone, so that a node which never heard of the request finds the document there
    assert first.json()["key"] == "adeb4e6a-0519-8c6c-9757-9b0ab25c32d7"
    refused(http.post(place, json={"n": 2}, headers=named), 400, "invalid")
    others = {http.post(place, json={}, headers={"Idempotency-Key": f"{n}"}).json()["key"] for n in range(3)}
    others.add(
        http.post("/v1/collections/o/documents", json={}, headers={"Idempotency-Key": "x"}).json()["key"]
    )
    assert len(others) == 4
    writes = [{"op": "insert", "collection": "lines", "document": {"n": n}} for n in range(2)]
    for _ in range(2):
        batch = http.post("/v1/_batch", json={"writes": writes}, headers={"Idempotency-Key": "b"})
        assert batch.status_code == 200
    assert http.post("/v1/collections/lines/_count", json={}).json() == {"count": 2}


def test_keys_of_any_text_have_a_place(http: httpx.Client) -> None:
    for key in ("a/b", "ä ö", "50%", "?#", "a:b"):
        place = one("keys", quote(key, safe=""))
        assert http.put(place, json={"key": key}).status_code == 200, key
        assert http.get(place).json() == {"key": key}
    with_key = http.post("/v1/collections/keys/documents", json={"n": 1})
    assert with_key.status_code == 201
    assert http.get(with_key.headers["location"]).json() == {"n": 1}


def test_many_are_stored_found_paged_counted(http: httpx.Client) -> None:
    many = "/v1/collections/many"
    documents = {f"k{n:03}": {"n": n, "even": n % 2 == 0} for n in range(250)}
    assert http.post(f"{many}/_bulk", json={"documents": documents}).json() == {"stored": 250}
    seen: list[int] = []
    after = None
    while True:
        body = {"filter": {"even": True}, "sort": "-n", "limit": 50, "after": after}
        page = http.post(f"{many}/_find", json=body).json()
        seen += [row["document"]["n"] for row in page["documents"]]
        after = page["after"]
        if after is None:
            break
    assert seen == list(range(248, -1, -2))
    listed = http.get(f"{many}/documents", params={"filter": '{"n": {"$lt": 3}}', "sort": "-n"}).json()
    assert [row["key"] for row in listed["documents"]] == ["k002", "k001", "k000"]
    assert http.post(f"{many}/_count", json={"filter": {"even": False}}).json() == {"count": 125}
    assert http.post(f"{many}/_distinct", json={"path": "even"}).json() == {"values": [False, True]}
    pipeline = [{"$group": {"_id": "$even", "sum": {"$sum": "$n"}}}, {"$sort": "_id"}]
    rows = http.post(f"{many}/_aggregate", json={"pipeline": pipeline}).json()["rows"]
    assert [row["sum"] for row in rows] == [15625, 15500]
    assert "many" in http.get("/v1/collections").json()["collections"]


def test_a_batch_is_done_whole_or_not_at_all(http: httpx.Client) -> None:
    http.put(one("stock", "apple"), json={"n": 5})
    writes = [
        {"op": "insert", "collection": "orders", "key": "o1", "document": {"apple": 2}},
        {"op": "update", "collection": "stock", "key": "apple", "update": {"$inc": {"n": -2}}},
    ]
    versions = http.post("/v1/_batch", json={"writes": writes}).json()["versions"]
    assert len(versions) == 2
    refused(http.post("/v1/_batch", json={"writes": writes}), 409, "already-exists")
    assert http.get(one("stock", "apple")).json() == {"n": 3}
    wrong = {"op": "put", "collection": "stock", "key": "apple", "document": {}, "if_version": versions[0]}
    refused(http.post("/v1/_batch", json={"writes": [writes[1], wrong]}), 412, "version-mismatch")
    assert http.get(one("stock", "apple")).json() == {"n": 3}
    any_version = {"op": "put", "collection": "stock", "document": {}, "if_version": "*"}
    refused(
        http.post("/v1/_batch", json={"writes": [writes[1], {**any_version, "key": "pear"}]}),
        412,
        "version-mismatch",
    )
    assert http.post("/v1/_batch", json={"writes": [{**any_version, "key": "apple"}]}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("PUT", one("users", "x"), "[1]", "invalid"),
        ("PUT", one("users", "x"), '{"a": 1, "a": 2}', "invalid"),
        ("PUT", one("users", "x"), '{"a": NaN}', "invalid"),
        ("PUT", one("users", "x"), "{", "invalid"),
        ("PUT", one("_system_nodes", "x"), "{}", "not-allowed"),
        ("PUT", one("bad name", "x"), "{}", "invalid"),
        ("PUT", one("users", "k" * 513), "{}", "invalid"),
        ("PATCH", one("users", "x"), '{"$near": {"a": 1}}', "unsupported"),
        ("POST", "/v1/collections/users/_find", '{"filter": {"a": {"$near": 1}}}', "unsupported"),
        ("POST", "/v1/collections/users/_find", '{"where": 1}', "invalid"),
        ("POST", "/v1/collections/users/_find", '{"limit": 1001}', "invalid"),
        ("POST", "/v1/collections/users/_find", '{"after": "x"}', "invalid"),
        ("POST", "/v1/collections/users/_bulk", '{"documents": [1]}', "invalid"),
        ("POST", "/v1/_batch", '{"writes": []}', "invalid"),
        ("POST", "/v1/_batch", '{"writes": [{"op": "move", "collection": "c", "key": "k"}]}', "invalid"),
        ("POST", "/v1/_batch", '{"writes": [{"op": "put", "collection": "c", "key": "k"}]}', "invalid"),
        (
            "POST",
            "/v1/_batch",
            '{"writes": [{"op": "insert", "collection": "c", "document": {}, "if_version": "*"}]}',
            "invalid",
        ),
        ("GET", "/v1/collections/users/documents?limit=-1", None, "invalid"),
        ("GET", "/v1/collections/users/documents?filter=[]", None, "invalid"),
        ("GET", "/readyz?max_lag=soon", None, "invalid"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    http: httpx.Client, method: str, path: str, body: str | None, code: str
) -> None:
    answer = http.request(method, path, content=body, headers={"Content-Type": "application/json"})
    told = refused(answer, 403 if code == "not-allowed" else 400, code)
    assert told["detail"]


def test_a_body_is_bounded_and_of_a_kind(http: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    refused(http.put(one("users", "x"), content=b" " * (2**21 + 1), headers=kind), 413, "too-large")
    for other in ({"Content-Type": "text/plain"}, {}):
        refused(http.put(one("users", "x"), content=b"{}", headers=other), 415, "invalid")
    refused(http.put(one("users", "x"), content=b'{"a": "\xff"}', headers=kind), 400, "invalid")


def test_paths_and_methods_that_are_none(http: httpx.Client) -> None:
    assert "openapi.json" in refused(http.get("/v1/nothing"), 404, "not-found")["hint"]
    answer = http.post(one("users", "x"), json={})
    refused(answer, 405, "invalid")
    assert "GET" in answer.headers["allow"]


def events(http: httpx.Client, path: str, count: int, **options: Any) -> list[tuple[str, Any, str]]:
    """The first events of a stream: kind, data, id."""

    def each(lines: Iterator[str]) -> Iterator[tuple[str, Any, str]]:
        found: dict[str, str] = {}
        for line in lines:
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif "data" in found:
                yield found["event"], json.loads(found["data"]), found.get("id", "")
                found = {}

    with http.stream("GET", path, **options) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(islice(each(answer.iter_lines()), count))


def test_a_change_feed_goes_on_behind_the_last_event_that_was_seen(http: httpx.Client) -> None:
    for n in range(3):
        http.put(one("feed", f"k{n}"), json={"n": n})
    first = events(http, "/v1/changes?collections=feed", 2)
    assert [(kind, body["key"], body["document"]) for kind, body, _ in first] == [
        ("change", "k0", {"n": 0}),
        ("change", "k1", {"n": 1}),
    ]
    http.delete(one("feed", "k0"))
    rest = events(http, "/v1/changes?collections=feed", 2, headers={"Last-Event-ID": first[-1][2]})
    assert [(body["key"], body["document"]) for _, body, _ in rest] == [("k2", {"n": 2}), ("k0", None)]


@pytest.mark.parametrize("path", ["/v1/changes", "/v1/collections/feed/_watch"])
def test_a_token_that_is_good_for_nothing_is_refused_before_the_stream_begins(
    http: httpx.Client, path: str
) -> None:
    # a browser whose stream ends asks again for ever, and by the same token; after another status never
    refused(http.get(path, params={"since": "0" * 32 + ".1"}), 410, "token-expired")
    refused(http.get(path, headers={"Last-Event-ID": "yesterday"}), 400, "invalid")


def test_watches_and_live_queries_are_streams(http: httpx.Client) -> None:
    http.put(one("jobs", "a"), json={"state": "open"})
    wanted = {"filter": '{"state": "open"}'}
    (event,) = events(http, "/v1/collections/jobs/_watch", 1, params=wanted)
    assert (event[0], event[1]["key"]) == ("enter", "a")
    (result,) = events(http, "/v1/collections/jobs/_live", 1, params=wanted)
    assert (result[0], [row["key"] for row in result[1]]) == ("result", ["a"])
    refused(
        http.get("/v1/collections/jobs/_live", params={"filter": '{"a": {"$near": 1}}'}), 400, "unsupported"
    )


def test_health_is_that_of_the_process_and_readiness_that_of_its_node(
    http: httpx.Client, directory: Path
) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz", params={"max_lag": "5"}).json() == {"status": "ok"}
    assert stop_node(directory) is not None
    try:
        assert http.get("/healthz").status_code == 200
        gone = http.get("/readyz")
        assert (gone.status_code, gone.json()["status"]) == (503, "no-node")
        told = refused(http.put(one("users", "x"), json={}), 503, "no-node")
        assert told["definite"]
        # reading needs the file alone
        assert http.get(one("jobs", "a")).status_code == 200
    finally:
        start_detached(directory)
    assert http.put(one("users", "x"), json={}).status_code == 200
    with entgldb.connect(directory) as db:
        assert db["users"].get("x") == {}


def test_a_name_that_another_request_had_is_refused(http: httpx.Client) -> None:
    named = {"Idempotency-Key": "twice"}
    writes = [{"op": "put", "collection": "named", "key": key, "document": {}} for key in "ab"]
    assert http.post("/v1/_batch", json={"writes": writes}, headers=named).status_code == 200
    other = http.put("/v1/collections/named/documents/c", json={}, headers=named)
    assert (other.status_code, other.json()["detail"]) == (400, "another request had this name")
    gone = {"Idempotency-Key": "gone"}
    assert http.delete("/v1/collections/named/documents/none", headers=gone).status_code == 404
    assert http.put("/v1/collections/named/documents/c", json={}, headers=gone).status_code == 400
