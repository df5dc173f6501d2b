"""Filters: what each operator finds, that indexes are used, and that the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.messages.errors import EntglError, InvalidError, UnsupportedError
from entgldb.storage.documents.filter import compile_filter, compile_sort
from entgldb.storage.documents.query import Documents
from tests.support.documents import reader_of

PEOPLE: dict[str, Any] = {
    "ada": {"name": "Ada", "age": 36, "home": {"city": "London"}, "alive": False},
    "alan": {"name": "Alan", "age": 41, "home": {"city": "London"}, "alive": False},
    "barbara": {"name": "Barbara", "age": 85, "home": {"city": "Boston"}, "alive": True},
    "empty": {},
    "odd": {"name": 7, "age": "36", "alive": 1, "home": None},
    "tags": {"age": [1], "name": None, "home": {"city": 'O"Hare'}},
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    indexes = [("people", path) for path in ("age", "home.city", "age")]
    with reader_of(tmp_path_factory.mktemp("people"), {"people": PEOPLE}, *indexes) as documents:
        yield documents


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({}, sorted(PEOPLE)),
        ({"name": "Ada"}, ["ada"]),
        ({"age": 36}, ["ada"]),
        ({"age": 36.0}, ["ada"]),
        ({"age": "36"}, ["odd"]),
        ({"age": {"$gte": 41}}, ["alan", "barbara"]),
        ({"age": {"$gt": 41}}, ["barbara"]),
        ({"age": {"$lt": 41}}, ["ada"]),
        ({"age": {"$lte": 41}}, ["ada", "alan"]),
        ({"age": {"$gt": 36, "$lt": 85}}, ["alan"]),
        ({"name": {"$gte": "Al"}}, ["alan", "barbara"]),
        ({"home.city": "London", "age": {"$gt": 40}}, ["alan"]),
        ({"alive": True}, ["barbara"]),
        ({"alive": False}, ["ada", "alan"]),
        ({"alive": 1}, ["odd"]),
        ({"alive": None}, ["empty", "tags"]),
        ({"age": {"$in": [36, 85, "36"]}}, ["ada", "barbara", "odd"]),
        ({"name": {"$in": [None, "Ada"]}}, ["ada", "empty", "tags"]),
        ({"age": {"$in": []}}, []),
        ({"$or": [{"age": 36}, {"home.city": "Boston"}]}, ["ada", "barbara"]),
        ({"$and": [{"age": {"$gt": 1}}, {"alive": True}]}, ["barbara"]),
        ({"home.city": 'O"Hare'}, ["tags"]),
        ({"age": 10**30}, []),
    ],
)
def test_what_a_filter_finds(people: Documents, wanted: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in people.find("people", wanted)] == keys
    assert [key for key, _ in people.find("people", wanted, limit=100)] == keys
    assert people.count("people", wanted) == len(keys)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"age": {"$ne": 1}}, UnsupportedError),
        ({"$nor": [{"age": 1}]}, UnsupportedError),
        ({"age": {"nested": 1}}, UnsupportedError),
        ({"age": {}}, UnsupportedError),
        ({"age": [1]}, UnsupportedError),
        ({"age": {"$in": [[1]]}}, UnsupportedError),
        ({"age": {"$gt": True}}, UnsupportedError),
        ({"age": {"$lt": None}}, UnsupportedError),
        ({"age": {"$in": 3}}, InvalidError),
        ({"age": {"$in": list(range(1001))}}, InvalidError),
        ({"age": float("nan")}, InvalidError),
        ({"name": "\ud800"}, InvalidError),
        ({"$or": []}, InvalidError),
        ({"$or": [1]}, InvalidError),
        ({"": 1}, InvalidError),
        ({"a..b": 1}, InvalidError),
        ({"a'b": 1}, InvalidError),
        ({'a"b': 1}, InvalidError),
        ({"a" * 300: 1}, InvalidError),
    ],
)
def test_what_is_refused(wanted: dict[str, Any], error: type[EntglError]) -> None:
    with pytest.raises(error):
        compile_filter(wanted)


def test_a_filter_nested_too_deeply_is_refused() -> None:
    wanted: dict[str, Any] = {"a": 1}
    for _ in range(40):
        wanted = {"$and": [wanted]}
    with pytest.raises(InvalidError, match="deeper"):
        compile_filter(wanted)


def test_sort_limit_and_skip(people: Documents) -> None:
    grown = {"age": {"$gt": 0}}
    assert [k for k, _ in people.find("people", grown, sort="-age")] == ["barbara", "alan", "ada"]
    assert [k for k, _ in people.find("people", grown, sort="age", limit=1, skip=1)] == ["alan"]
    assert [k for k, _ in people.find("people", grown, sort=["home.city", "-age"])] == [
        "barbara",
        "alan",
        "ada",
    ]
    for bad in (-1, True, 1.5):
        with pytest.raises(InvalidError, match="limit"):
            people.find("people", limit=bad)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "wanted",
    [
        {"age": 36},
        {"age": {"$gte": 30}},
        {"age": {"$gt": 30, "$lt": 50}},
        {"age": {"$in": [1, 2, 3]}},
        {"home.city": "London"},
        {"home.city": "London", "name": "Ada"},
        {"$and": [{"age": {"$lte": 3}}, {"name": "Ada"}]},
    ],
)
def test_an_indexed_field_is_searched_by_its_index(people: Documents, wanted: dict[str, Any]) -> None:
    assert "_entgldb_ix_" in _plan(people, wanted, None)


@pytest.mark.parametrize("sort", ["age", "-age"])
def test_sorting_by_an_indexed_field_sorts_nothing(people: Documents, sort: str) -> None:
    plan = _plan(people, {"age": {"$gte": 1}}, sort)
    assert "_entgldb_ix_" in plan
    assert "TEMP B-TREE" not in plan


def _plan(documents: Documents, wanted: dict[str, Any], sort: str | None) -> str:
    condition = compile_filter(wanted)
    rows = documents._all(
        "EXPLAIN QUERY PLAN SELECT key, body FROM _entgldb_documents WHERE collection = 'people'"
        f" AND body IS NOT NULL AND {condition.sql} ORDER BY {compile_sort(sort)} LIMIT 10",
        condition.values,
    )
    return " / ".join(row[3] for row in rows)
