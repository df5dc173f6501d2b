"""Filters: what each operator finds, that indexes are used, and that the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.messages.errors import EntglError, InvalidError, TooLargeError, UnsupportedError
from entgldb.storage.documents.filter import compile_filter
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.field_path import PATH_PARTS_MAX
from entgldb.storage.rules.filtering.parser import (
    CONDITIONS_MAX,
    FILTER_CHARS_MAX,
    FILTER_DEPTH_MAX,
    IN_VALUES_MAX,
)
from entgldb.storage.rules.filtering.pattern import REGEX_CHARS_MAX
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
    flat = {key: body for key, body in PEOPLE.items() if key != "tags"}
    bodies = {"people": PEOPLE, "flat": flat}
    with reader_of(tmp_path_factory.mktemp("people"), bodies, *indexes, ("flat", "age")) as documents:
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
        ({"age": {"$lt": 41}}, ["ada", "tags"]),
        ({"age": {"$lte": 41}}, ["ada", "alan", "tags"]),
        ({"age": {"$gt": 36, "$lt": 85}}, ["alan"]),
        ({"name": {"$gte": "Al"}}, ["alan", "barbara"]),
        ({"home.city": "London", "age": {"$gt": 40}}, ["alan"]),
        ({"alive": True}, ["barbara"]),
        ({"alive": False}, ["ada", "alan"]),
        ({"alive": 1}, ["odd"]),
        ({"alive": None}, ["empty", "tags"]),
        ({"age": {"$ne": 36}}, ["alan", "barbara", "empty", "odd", "tags"]),
        ({"age": {"$nin": [36, 41]}}, ["barbara", "empty", "odd", "tags"]),
        ({"age": [1]}, ["tags"]),
        ({"home": {"city": "Boston"}}, ["barbara"]),
        ({"home": {}}, []),
        ({"age": {"$exists": False}}, ["empty"]),
        ({"name": {"$exists": True}}, ["ada", "alan", "barbara", "odd", "tags"]),
        ({"age": {"$type": "array"}}, ["tags"]),
        ({"age": {"$type": ["string", "array"]}}, ["odd", "tags"]),
        ({"age": {"$not": {"$gt": 36}}}, ["ada", "empty", "odd", "tags"]),
        ({"$nor": [{"age": 36}, {"name": "Alan"}]}, ["barbara", "empty", "odd", "tags"]),
        ({"age": {"$all": [1]}}, ["tags"]),
        ({"age": {"$all": []}}, []),
        ({"age": {"$size": 1}}, ["tags"]),
        ({"age": {"$elemMatch": {"$gt": 0, "$lt": 2}}}, ["tags"]),
        ({"name": {"$contains": "a"}}, ["ada", "alan", "barbara"]),
        ({"name": {"$startsWith": "A"}}, ["ada", "alan"]),
        ({"name": {"$regex": "^A.a"}}, ["ada", "alan"]),
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
        ({"age": {"$gt": True}}, UnsupportedError),
        ({"age": {"$lt": None}}, UnsupportedError),
        ({"age": {"$gt": [1]}}, UnsupportedError),
        ({"age": {"$in": 3}}, InvalidError),
        ({"age": {"$exists": 1}}, InvalidError),
        ({"age": {"$size": -1}}, InvalidError),
        ({"age": {"$size": True}}, InvalidError),
        ({"age": {"$type": "int"}}, InvalidError),
        ({"age": {"$type": []}}, InvalidError),
        ({"age": {"$not": {}}}, InvalidError),
        ({"age": {"$not": 3}}, InvalidError),
        ({"age": {"$elemMatch": 3}}, InvalidError),
        ({"age": {"$contains": 3}}, InvalidError),
        ({"age": {"$regex": 3}}, InvalidError),
        ({"age": {"$eq": {1: 2}}}, InvalidError),
        ({"age": {1, 2}}, UnsupportedError),
        ({"$nor": []}, InvalidError),
        ([], InvalidError),
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


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"age": {"$gtee": 1}}, "$gte"),
        ({"age": {"$contain": "a"}}, "$contains"),
        ({"age": {"$element": 1}}, "$elemMatch"),
        ({"$not": {"age": 1}}, "$not stands below a field"),
        ({"$orr": [{"age": 1}]}, "$or"),
        ({"age": {"$or": [1]}}, "$or stands around fields"),
        ({"age": {"$gt": 1, "other": 2}}, "$gt"),
    ],
)
def test_an_operator_that_there_is_not_is_named_with_the_nearest(wanted: Any, named: str) -> None:
    with pytest.raises(UnsupportedError, match="is not supported") as fault:
        compile_filter(wanted)
    assert named in fault.value.hint


def nested(name: str, times: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {"a": 1}
    for _ in range(times):
        wanted = {name: [wanted]} if name == "$and" else {"a": {name: wanted}}
    return wanted


def in_lists(times: int) -> Any:
    value: Any = 1
    for _ in range(times):
        value = [value]
    return value


@pytest.mark.parametrize("wanted", [nested("$and", 33), nested("$elemMatch", 33), {"a": in_lists(34)}])
def test_a_filter_nested_too_deeply_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=f"FILTER_DEPTH_MAX = {FILTER_DEPTH_MAX}"):
        compile_filter(wanted)


@pytest.mark.parametrize(
    ("good", "more", "named"),
    [
        ({"$or": [{"a": 1}] * (CONDITIONS_MAX - 1)}, {"b": 1}, "CONDITIONS_MAX = 200"),
        ({"a": {"$in": [*range(IN_VALUES_MAX)]}}, {"a": {"$all": [*range(1001)]}}, "IN_VALUES_MAX = 1000"),
        ({"a": "x" * FILTER_CHARS_MAX}, {"b": "y"}, "FILTER_CHARS_MAX = 1048576"),
        ({"a": {"$regex": "a" * REGEX_CHARS_MAX}}, {"a": {"$regex": "a" * 257}}, "REGEX_CHARS_MAX = 256"),
        ({"a": {"$regex": "(abc){300}"}}, {"a": {"$regex": "(abc){334}"}}, "REGEX_STEPS_MAX = 1000"),
        ({"a": {"$regex": "a{0,400}"}}, {"a": {"$regex": "a{0,1001}"}}, "REGEX_REPEAT_MAX = 1000"),
    ],
)
def test_limits_of_a_filter_are_named(
    people: Documents, good: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    people.count("people", good)
    with pytest.raises(TooLargeError, match=named):
        people.count("people", {**good, **more})


def test_a_filter_of_the_greatest_size_is_answered(people: Documents) -> None:
    """With and without SQL: what SQL could not hold is asked of the plain matcher alone."""
    path = ".".join(["age", *"a" * (PATH_PARTS_MAX - 1)])
    values = [*range(IN_VALUES_MAX)]
    wanted = {"$or": [{path: {"$in": [None, *values[1:]]}}] * (CONDITIONS_MAX // 2 - 1), "name": "Ada"}
    assert compile_filter(wanted).sql == "entgldb_matches(body, ?)"
    assert [key for key, _ in people.find("people", wanted)] == ["ada"]
    assert [k for k, _ in people.find("people", {"$and": [{"name": "Ada"}] * (CONDITIONS_MAX - 1)})] == [
        "ada"
    ]
    with pytest.raises(InvalidError, match="PATH_PARTS_MAX = 32"):
        compile_filter({f"{path}.a": 1})


def test_sort_limit_and_skip(people: Documents) -> None:
    grown = {"age": {"$gt": 1}}
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
    assert "_entgldb_ix_" in _plan(people, "people", wanted, None)


@pytest.mark.parametrize("sort", ["age", "-age"])
def test_sorting_by_an_indexed_field_sorts_nothing(people: Documents, sort: str) -> None:
    plan = _plan(people, "flat", {"age": {"$gte": 1}}, sort)
    assert "_entgldb_ix_" in plan
    assert "TEMP B-TREE" not in plan


def _plan(documents: Documents, collection: str, wanted: dict[str, Any], sort: str | None) -> str:
    found = documents.finder.question(collection, wanted, sort)
    rows = documents._apart()._all(
        f"EXPLAIN QUERY PLAN SELECT key, body FROM {found.source} ORDER BY {found.order} LIMIT 10",
        found.values,
    )
    return " / ".join(row[3] for row in rows)
