"""The page and its fragments, from a real node: what is open, how large, and that no text becomes markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from entgldb._version import VERSION
from tests.unit.web.serving import served

pytestmark = pytest.mark.slow
FIRST_PAINT_BYTES_MAX = 150_000
"""Of all that a browser fetches before it shows something, as it is stored; sent, it is half of that."""
STATIC = f"/ui/static/{VERSION}"
FILES = (
    "dashboard.css",
    "dashboard.js",
    "charts.js",
    "icon.svg",
    "vendor/htmx.esm.min.js",
    "vendor/uplot.iife.min.js",
    "vendor/uplot.min.css",
)
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 123457*1000 }}{% raw %}",
    "a\u2028b\u2029c",
    "../../etc?x#y",
    "</textarea><b>",
    "&lt;i&gt;",
)
VIEWS = ("overview", "overview/live", "documents", "conflicts", "peers", "nodes", "upkeep")


@pytest.fixture(scope="module")
def http(directory: Path) -> Iterator[httpx.Client]:
    with served(directory) as client:
        yield client


def test_the_shell_and_its_files_are_small_and_let_nothing_in_from_elsewhere(http: httpx.Client) -> None:
    shell = http.get("/")
    assert shell.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in shell.headers["content-security-policy"]
    assert "unsafe" not in shell.headers["content-security-policy"]
    assert "style=" not in shell.text, "the policy refuses it"
    assert "http://" not in shell.text
    assert "https://" not in shell.text
    total, sent = len(shell.content), 0
    for name in FILES:
        answer = http.get(f"{STATIC}/{name}")
        assert answer.status_code == 200, name
        assert f"{STATIC}/{name}" in shell.text or name in ("charts.js", "vendor/htmx.esm.min.js")
        total, sent = total + len(answer.content), sent + int(answer.headers["content-length"])
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        plain = http.get(f"{STATIC}/{name}", headers={"Accept-Encoding": "identity"})
        assert (plain.content, "content-encoding" in plain.headers) == (answer.content, False)
        assert (answer.headers["content-type"], answer.headers["vary"]) == (
            plain.headers["content-type"],
            "Accept-Encoding",
        )
    total += len(http.get("/ui/overview").content)
    assert total <= FIRST_PAINT_BYTES_MAX
    assert sent < total / 2, "files are sent smaller"


def test_the_licences_of_what_others_made_are_there(http: httpx.Client) -> None:
    assert "Zero-Clause BSD" in http.get(f"{STATIC}/vendor/htmx.LICENSE").text
    assert "MIT" in http.get(f"{STATIC}/vendor/uplot.LICENSE").text


@pytest.mark.parametrize("path", ["../page.py", "%2e%2e/page.py", "..%2fpage.py", "vendor/../../page.py"])
def test_no_other_file_is_served(http: httpx.Client, path: str) -> None:
    assert http.get(f"{STATIC}/{path}").status_code == 404


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_a_fragment_with_the_same_policy(http: httpx.Client, view: str) -> None:
    answer = http.get(f"/ui/{view}")
    assert answer.status_code == 200, answer.text
    assert "<html" not in answer.text
    assert "style=" not in answer.text
    assert "onclick" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_and_is_never_markup(http: httpx.Client, text: str) -> None:
    place = f"/v1/collections/hostile/documents/{quote(text, safe='')}"
    assert http.put(place, json={text: text}).status_code == 200
    where = {"collection": "hostile", "key": text}
    for path, asked in (
        ("/ui/documents", {"collection": "hostile", "filter": json.dumps({"x": {"$ne": text}})}),
        ("/ui/document", where),
        ("/ui/history", where),
        ("/ui/why", where),
        ("/ui/documents", {"like": text}),
        ("/ui/nodes", {"like": text}),
    ):
        answer = http.get(path, params=asked)
        assert answer.status_code == 200, (path, answer.text)
        for markup in ("<script", "<img", "<i>", "</textarea><b>"):
            assert markup not in answer.text, (path, markup)
        assert "123457000" not in answer.text, "no text is a template"
        if path == "/ui/document":
            assert text in unescape(answer.text)
            assert quote(text, safe="") in answer.text, "links name it"


def test_documents_are_shown_a_page_at_a_time(http: httpx.Client) -> None:
    documents = {f"k{number:03}": {"n": number} for number in range(60)}
    assert http.post("/v1/collections/many/_bulk", json={"documents": documents}).status_code == 200
    first = http.get("/ui/documents", params={"collection": "many", "sort": "-n"}).text
    assert first.count('<th scope="row">') == 25
    assert "k059" in first
    assert "k034" not in first
    further = unescape(first.partition('<button hx-get="')[2].partition('"')[0])
    second = http.get(further).text
    assert second.count('<th scope="row">') == 25
    assert "k034" in second
    assert "<h1>" not in second, "rows alone are added to the page"
    matching = http.get("/ui/documents", params={"collection": "many", "filter": '{"n": {"$lt": 3}}'}).text
    assert matching.count('<th scope="row">') == 3
    assert "60 documents" in http.get("/ui/count", params={"collection": "many"}).text
    refused = http.get("/ui/documents", params={"collection": "many", "filter": "{"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


def test_a_large_document_is_cut_until_all_of_it_is_asked_for(http: httpx.Client) -> None:
    large = {"text": "é" * 500_000}
    assert http.put("/v1/collections/large/documents/one", json=large).status_code == 200
    where = {"collection": "large", "key": "one"}
    assert len(http.get("/ui/documents", params={"collection": "large"}).text) < 4_000
    shown = http.get("/ui/document", params=where).text
    assert len(shown) < 70_000
    assert "whole=true" in shown
    assert "<textarea" not in shown, "a part cannot be stored over the whole"
    whole = http.get("/ui/document", params={**where, "whole": "true"}).text
    assert whole.count("é") == 500_000
    assert len(http.get("/ui/history", params=where).text) < 5_000


def test_numbers_stay_as_they_are_written(http: httpx.Client) -> None:
    text = '{"big":12345678901234567890,"small":1e-7}'
    http.put(
        "/v1/collections/numbers/documents/n", content=text, headers={"Content-Type": "application/json"}
    )
    shown = unescape(http.get("/ui/document", params={"collection": "numbers", "key": "n"}).text)
    assert '"big": 12345678901234567890' in shown
    assert '"small": 1e-07' in shown


def test_a_document_that_is_gone_can_be_brought_back(http: httpx.Client) -> None:
    place = "/v1/collections/gone/documents/a%2Fb"
    http.put(place, json={"n": 1})
    http.delete(place)
    shown = http.get("/ui/document", params={"collection": "gone", "key": "a/b"}).text
    assert 'data-path="/v1/collections/gone/undelete/a%2Fb"' in shown
    told = http.get("/ui/history", params={"collection": "gone", "key": "a/b"}).text
    assert "<b>delete</b>" in told


@pytest.mark.parametrize("path", ["document", "history", "why", "count"])
def test_a_fragment_about_nothing_is_refused(http: httpx.Client, path: str) -> None:
    for asked in ({}, {"collection": "_x", "key": "k"}):
        answer = http.get(f"/ui/{path}", params=asked)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_the_stream_tells_the_hour_and_then_every_look(http: httpx.Client) -> None:
    with http.stream("GET", "/ui/pulse") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines() if line.startswith(("event", "data")))
        assert next(lines) == "event: history"
        rows = json.loads(next(lines).removeprefix("data: "))
        assert all(len(row) == 5 for row in rows)
        assert next(lines) == "event: pulse"
        told = json.loads(next(lines).removeprefix("data: "))
    assert (told["up"], told["node"]) == (True, "lan-1")
    assert set(told["marks"]) == {"overview", "conflicts", "peers", "nodes", "upkeep"}
