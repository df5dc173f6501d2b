"""A page of sorted documents: of many there has to be an index, which the page offers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

import entgldb
from entgldb.web.dashboard import documents
from entgldb.web.dashboard.documents import DocumentViews, _has_order

LEFT_OUT = "has more than 3 documents, and no index in the order"


def page(directory: Path, **asked: str) -> str:
    async def shown() -> str:
        async with entgldb.aio.open(directory) as db:
            query = urlencode({"collection": "many", **asked}).encode()
            request = Request({"type": "http", "method": "GET", "query_string": query, "headers": []})
            return bytes((await DocumentViews(db).documents(request)).body).decode()

    return asyncio.run(shown())


def test_many_documents_are_sorted_by_an_index_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SORTED_MAX", 3)
    with entgldb.open(tmp_path) as db:
        db["many"].put_many({f"k{number}": {"n": number, "m": -number} for number in range(3)})
    assert "k2" in page(tmp_path, sort="-n")
    with entgldb.open(tmp_path) as db:
        db["many"].put("k3", {"n": 3})
    for sort in ("-n", "n, m"):
        refused = page(tmp_path, sort=sort)
        assert LEFT_OUT in refused
        assert 'data-path="/v1/collections/many/indexes"' in refused
        assert "<tbody>" not in refused
    assert "Make an index on -n" in page(tmp_path, sort="-n")
    assert "k3" in page(tmp_path)
    assert "k3" in page(tmp_path, sort="-n", filter='{"n": {"$gte": 1}}')
    with entgldb.open(tmp_path) as db:
        db["many"].create_index("n")
    assert "k3" in page(tmp_path, sort="-n")
    assert LEFT_OUT in page(tmp_path, sort="m")


@pytest.mark.parametrize(
    ("paths", "order", "fits"),
    [
        (["a"], ["a"], True),
        (["a"], ["-a"], True),
        (["a", "-b"], ["a"], True),
        (["a", "-b"], ["-a", "b"], True),
        (["a", "-b"], ["a", "b"], False),
        (["a"], ["a", "b"], False),
        (["b", "a"], ["a"], False),
    ],
)
def test_an_index_has_the_order_of_its_first_paths_from_either_end(
    paths: list[str], order: list[str], fits: bool
) -> None:
    assert _has_order(paths, order) is fits
