"""Import, export, backup as streams, messages to actors: what stands is said, too much is refused."""

from __future__ import annotations

import hashlib
import json
import socket
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from entgldb.client.upkeep import backup
from entgldb.client.upkeep.backup import copied
from entgldb.client.upkeep.messages import admin_message
from entgldb.messages.client import Isolate
from entgldb.messages.errors import BusyError, EntglError, InvalidError
from entgldb.storage.recovery.backup import verify
from tests.support.one_node import one_node
from tests.system.support.processes import until
from tests.unit.web.serving import served

LINES = {"Content-Type": "application/jsonl"}
TABLE = {"Content-Type": "text/csv"}
MANY = 3000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with one_node(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def http(directory: Path) -> Iterator[httpx.Client]:
    with served(directory) as client:
        yield client


def lines(count: int) -> Iterator[bytes]:
    """A body that is sent in pieces."""
    for n in range(count):
        yield json.dumps({"_key": f"k{n:05}", "n": n, "pad": "x" * 50}).encode() + b"\n"


@pytest.mark.slow
def test_lines_go_in_as_a_stream_and_come_out_again(http: httpx.Client) -> None:
    done = http.post("/v1/collections/lines/_import", content=lines(MANY), headers=LINES)
    assert (done.status_code, done.json()["stored"]) == (200, MANY)
    out = http.get("/v1/collections/lines/_export")
    assert out.headers["content-type"].startswith("application/jsonl")
    assert out.content == b"".join(
        json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n" for line in lines(MANY)
    )
    some = http.get("/v1/collections/lines/_export", params={"filter": '{"n": {"$lt": 2}}'})
    assert [json.loads(line)["n"] for line in some.text.splitlines()] == [0, 1]
    assert http.get("/v1/collections/lines/_export", params={"filter": '{"$x": 1}'}).status_code == 400


@pytest.mark.slow
def test_rows_go_in_and_come_out_again(http: httpx.Client) -> None:
    table = "article;price\na;1.5\nb;2\n"
    how = {"key": "article", "typed": "true", "delimiter": ";"}
    assert (
        http.post("/v1/collections/prices/_import", params=how, content=table, headers=TABLE).json()["stored"]
        == 2
    )
    assert http.get("/v1/collections/prices/documents/a").json() == {"article": "a", "price": 1.5}
    out = http.get("/v1/collections/prices/_export", params={"format": "csv", "delimiter": "tab"})
    assert out.text == "_key\tarticle\tprice\na\ta\t1.5\nb\tb\t2\n"


@pytest.mark.slow
def test_a_fault_names_its_line_and_what_stands(http: httpx.Client) -> None:
    body = b"".join(lines(1200)) + b"no json\n"
    refused = http.post("/v1/collections/broken/_import", content=body, headers=LINES)
    told = refused.json()
    assert (refused.status_code, told["code"]) == (400, "invalid")
    assert "the body, line 1201: " in told["detail"]
    # whole parts stand: the one that the line belongs to was not sent
    assert "1000 stored (lines 1 to 1000)" in told["detail"]
    assert "entgldb import" not in told["hint"]
    assert len(http.get("/v1/collections/broken/_export").text.splitlines()) == 1000
    for how in ({"format": "xml"}, {"delimiter": "ab"}, {"typed": "perhaps"}):
        assert http.post("/v1/collections/c/_import", params=how, headers=LINES).status_code == 400


@pytest.mark.slow
def test_a_client_that_goes_leaves_what_is_stored_and_a_place_for_the_next(http: httpx.Client) -> None:
    for turn in range(3):  # one more than there are places
        with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as gone:
            head = "POST /v1/collections/gone/_import HTTP/1.1\r\nContent-Type: application/jsonl\r\n"
            host = f"Host: {http.base_url.netloc.decode()}\r\nContent-Length: 1000000\r\n"
            body = b"".join(lines(600))
            gone.sendall(f"{head}{host}X-Request-ID: slow-{turn}\r\n\r\n".encode() + body)
            until(
                lambda: http.post("/v1/collections/gone/_count", json={}).json()["count"] >= 500 or None,
                20,
                "the first part of an import",
            )
            told = {row["request"]: row for row in http.get("/v1/imports").json()["imports"]}[f"slow-{turn}"]
            assert (told["collection"], told["of_bytes"]) == ("gone", 1_000_000)
            assert 500 <= told["documents"] <= 600
            assert 0 < told["bytes"] <= len(body)
            assert told["seconds"] >= 0
        http.delete("/v1/collections/gone/documents/k00000")

    def free() -> bool:
        return http.post("/v1/collections/gone/_import", content=lines(1), headers=LINES).status_code == 200

    until(lambda: free() or None, 20, "a place for an import")
    assert http.get("/v1/imports").json() == {"imports": []}


@pytest.mark.slow
def test_more_imports_than_there_are_places_are_refused(http: httpx.Client) -> None:
    held = [socket.create_connection((http.base_url.host, http.base_url.port or 0)) for _ in range(2)]
    for one in held:
        head = "POST /v1/collections/c/_import HTTP/1.1\r\nContent-Type: application/jsonl\r\n"
        host = f"Host: {http.base_url.netloc.decode()}\r\nContent-Length: 9\r\n"
        one.sendall(f"{head}{host}Expect: 100-continue\r\n\r\n".encode())
        one.settimeout(20)
        assert one.recv(100).startswith(b"HTTP/1.1 100"), "it is under way"
    refused = http.post("/v1/collections/c/_import", content=b"", headers=LINES)
    for one in held:
        one.close()
    assert (refused.status_code, refused.json()["detail"]) == (503, "2 imports are under way")


@pytest.mark.slow
def test_a_backup_is_a_whole_node(http: httpx.Client, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "got.db"
    with http.stream("GET", "/v1/backup") as answer:
        assert answer.status_code == 200
        file.write_bytes(b"".join(answer.iter_bytes()))
    assert int(answer.headers["content-length"]) == file.stat().st_size
    digest = hashlib.sha256(file.read_bytes()).digest()
    assert b64decode(answer.headers["repr-digest"].removeprefix("sha-256=:").removesuffix(":")) == digest
    assert verify(file).node_id == "lan-1"
    assert not list(directory.glob("backup.sending*"))


def test_a_backup_needs_room_and_is_made_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    with pytest.raises(EntglError, match="1 are free"):
        copied(tmp_path)
    with monkeypatch.context() as gone:
        gone.setattr(Path, "exists", lambda file: True)  # it was there a moment ago
        with pytest.raises(EntglError, match="1 are free"):
            copied(tmp_path)
    monkeypatch.setattr(backup, "_refuse_crowded", copied)
    with pytest.raises(BusyError, match="another backup"):
        copied(tmp_path)


@pytest.mark.slow
def test_actors_are_asked_and_told(http: httpx.Client) -> None:
    asked = http.post("/v1/actors/election/_ask", json={"message": "Status", "timeout": 60})
    assert asked.status_code == 200, asked.text
    assert asked.json()["actor"] == "election"
    assert "gateway" in asked.json()["answer"]
    told = http.post("/v1/actors/sync/_tell", json={"message": "Isolate", "fields": {"seconds": 0.01}})
    assert (told.status_code, told.json()) == (202, {"actor": "sync", "sent": "Isolate"})
    for path, body in (
        ("nobody/_ask", {"message": "Status"}),
        ("sync/_ask", {"message": "Commit"}),
        ("sync/_ask", {"message": "Isolate", "fields": {"seconds": "soon"}}),
        ("sync/_ask", {"message": "Isolate"}),
        ("sync/_ask", {"message": "Status", "timeout": 0}),
    ):
        assert http.post(f"/v1/actors/{path}", json=body).status_code in (400, 404), body


def test_messages_are_made_of_fields_that_fit() -> None:
    assert admin_message("Isolate", {"seconds": 3}) == Isolate(3.0)
    for name, given, told in (
        ("Isolate", {"seconds": True}, "float is expected"),
        ("Isolate", {}, "needs seconds"),
        ("Status", {"x": 1}, "its fields: none"),
        ("Commit", {}, "no message"),
    ):
        with pytest.raises(InvalidError, match=told):
            admin_message(name, given)


@pytest.mark.slow
def test_names_and_conflicts_come_by_pages(http: httpx.Client) -> None:
    for name in ("pa", "pb", "pc"):
        http.put(f"/v1/collections/{name}/documents/k", json={})
    first = http.get("/v1/collections", params={"after": "p", "limit": 2}).json()
    assert first == {"collections": ["pa", "pb"], "after": "pb"}
    rest = http.get("/v1/collections", params={"after": first["after"]}).json()
    assert (rest["collections"][0], rest["after"]) == ("pc", None)
    page = {"limit": 1, "skip": 5}
    assert http.get("/v1/conflicts", params=page).json() == {"conflicts": [], "more": False}
    assert http.get("/v1/conflicts", params={"limit": 1001}).status_code == 400
