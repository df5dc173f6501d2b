"""Filters and orders against what Python says: numbers of any size, arrays, each kind beside the others."""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError, UnsupportedError
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.filtering.cursor import make_cursor
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.support.documents import NOW, reader_of
from tests.support.oracle import matches

EDGES = [sign * (2**power + more) for sign in (1, -1) for power in (53, 63, 64, 100) for more in range(-2, 3)]
NUMBERS: list[Any] = [0, 1, -1, 0.5, -0.5, *EDGES, *map(float, EDGES), 10**30, 1e30, 10**31, -(10**30), 1e300]
OTHERS: list[Any] = [
    True,
    False,
    None,
    "",
    "a",
    "[",
    "[1]",
    '{"a":1}',
    "\N{GRINNING FACE}",
    "9223372036854775808",
]
SCALARS = NUMBERS + OTHERS
LISTS: list[Any] = [
    [],
    [1],
    ["a"],
    [True],
    [2**63, 2**63 + 1],
    [[1]],
    [{"a": 1}],
    ["a", None, 1.0],
    ["\\u0061"],
]
VALUES = [*SCALARS, *LISTS, {"a": 1}]
OPERATORS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    bodies = {
        "all": numbered(({"v": value, "plain": value, "in": {"v": value}} for value in VALUES), 3),
        "numbers": numbered(({"v": value} for value in NUMBERS), 3),
        "small": numbered(({"v": value} for value in range(9)), 1),
    }
    indexes = [*((collection, "v") for collection in bodies), ("all", "in.v")]
    with reader_of(tmp_path_factory.mktemp("exact"), bodies, *indexes) as opened:
        yield opened


def numbered(bodies: Iterable[Any], digits: int) -> dict[str, Any]:
    return {f"{number:0{digits}}": body for number, body in enumerate(bodies)}


def kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def equal(stored: Any, value: Any) -> bool:
    if type(stored) is list:
        return any(kind(item) == kind(value) and item == value for item in stored)
    return kind(stored) == kind(value) and bool(stored == value)


@pytest.mark.parametrize("path", ["v", "plain", "in.v"])
@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_equality_and_in_find_exactly_what_is_equal(documents: Documents, path: str, value: Any) -> None:
    wanted = [f"{number:03}" for number, stored in enumerate(VALUES) if equal(stored, value)]
    assert [key for key, _ in documents.find("all", {path: value})] == wanted
    assert documents.count("all", {path: {"$in": [value]}}) == len(wanted)
    assert len(wanted) >= 1
    missing = {path: {"$in": [value, "not there", 2**70 + 1, 77]}}
    assert [key for key, _ in documents.find("all", missing)] == wanted


@pytest.mark.parametrize("path", ["v", "plain"])
@pytest.mark.parametrize("value", [v for v in SCALARS if v is not None and not isinstance(v, bool)], ids=repr)
def test_comparisons_are_exact_for_numbers_of_any_size(documents: Documents, path: str, value: Any) -> None:
    for name, holds in OPERATORS.items():
        wanted = [
            f"{number:03}"
            for number, stored in enumerate(VALUES)
            if any(
                kind(one) == kind(value) and holds(one, value)
                for one in (stored if type(stored) is list else [stored])
            )
        ]
        assert [key for key, _ in documents.find("all", {path: {name: value}})] == wanted, name


@pytest.mark.parametrize("sort", ["v", "-v"])
def test_numbers_of_any_size_are_sorted_exactly(documents: Documents, sort: str) -> None:
    places = sorted(range(len(NUMBERS)), key=lambda at: (NUMBERS[at], at), reverse=sort == "-v")
    found = [key for key, _ in documents.find("numbers", sort=sort)]
    assert found == [f"{at:03}" for at in places]
    by_plain = [body["plain"] for _, body in documents.find("all", sort=sort.replace("v", "plain"))]
    assert [v for v in by_plain if kind(v) == "number"] == [NUMBERS[at] for at in places]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(2**62, 2**66))
def test_any_number_finds_what_it_equals(documents: Documents, value: float) -> None:
    wanted = [f"{at:03}" for at, number in enumerate(NUMBERS) if number == value]
    assert [key for key, _ in documents.find("numbers", {"v": value})] == wanted
    above = [f"{at:03}" for at, number in enumerate(NUMBERS) if number > value]
    assert [key for key, _ in documents.find("numbers", {"v": {"$gt": value}})] == above


def test_an_index_serves_a_field_that_has_neither_arrays_nor_large_numbers(documents: Documents) -> None:
    asked: list[str] = []
    documents._apart()._connection.set_trace_callback(asked.append)
    assert [key for key, _ in documents.find("small", {"v": {"$gte": 7}}, sort="-v", limit=9)] == ["8", "7"]
    documents._apart()._connection.set_trace_callback(None)
    found_by = next(sql for sql in asked if sql.startswith("SELECT key"))
    plan = documents._apart()._all(f"EXPLAIN QUERY PLAN {found_by}")
    assert "_entgldb_ix_" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    """Some thousand documents with a number, and a few with whatever else there is."""
    bodies = numbered(({"v": value} for value in (*range(3000), *VALUES)), 4)
    with reader_of(tmp_path_factory.mktemp("mixed"), {"c": bodies}, ("c", "v")) as opened:
        yield opened


@pytest.mark.parametrize(
    "wanted",
    [
        *({"v": value} for value in (5, 5.0, "a", True, False, None, 2**63, -(10**30))),
        {"v": {"$in": [5, "a", True, None, 2**70]}},
        {"$or": [{"v": 5}, {"v": "a"}]},
        {"v": 5, "w": None},
        {"v": {"$in": [*range(10)]}},
        {"v": {"$gt": 2990}},
        {"v": {"$lte": 1, "$gt": -5}},
        {"v": {"$gte": "a"}},
        {"v": [1]},
        {"v": {"a": 1}},
        {"v": {"$gt": 2**63}},
        {"v": {"$startsWith": "a"}},
    ],
    ids=repr,
)
def test_an_index_serves_equality_beside_arrays_and_large_numbers(
    mixed: Documents, wanted: dict[str, Any]
) -> None:
    asked: list[str] = []
    mixed._apart()._connection.set_trace_callback(asked.append)
    found = [key for key, _ in mixed.find("c", wanted, limit=500)]
    mixed._apart()._connection.set_trace_callback(None)
    found_by = next(sql for sql in asked if sql.startswith("SELECT key"))
    plan = "\n".join(row[3] for row in mixed._apart()._all(f"EXPLAIN QUERY PLAN {found_by}"))
    assert "_entgldb_ix_" in plan
    assert "SCAN" not in plan
    assert "INDEX _entgldb_ix" in plan
    assert "sqlite_autoindex" not in plan  # by the name of the collection alone
    assert found == [key for key, body in mixed.find("c") if matches(body, wanted)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*SCALARS, 5, 2999, 77.0, "not there"]), max_size=5))
def test_in_finds_by_the_index_what_the_plain_matcher_finds(mixed: Documents, values: list[Any]) -> None:
    wanted = {"v": {"$in": values}}
    found = [key for key, _ in mixed.find("c", wanted)]
    assert found == sorted(frozenset[str]().union(*(holders(mixed, value) for value in values)))
    assert mixed.count("c", wanted) == len(found)


@functools.lru_cache(maxsize=None, typed=True)
def holders(documents: Documents, value: Any) -> frozenset[str]:
    """The keys of all documents that the plain matcher finds for one value."""
    return frozenset(key for key, body in every(documents) if matches(body, {"v": value}))


@functools.cache
def every(documents: Documents) -> list[tuple[str, dict[str, Any]]]:
    return list(documents.find("c"))


def test_what_has_no_answer_is_refused_by_name(documents: Documents) -> None:
    with pytest.raises(UnsupportedError, match="4,300 digits"):
        documents.find("numbers", {"v": 10**5000})
    for value in (float("inf"), float("nan")):
        with pytest.raises(InvalidError, match="finite"):
            documents.find("numbers", {"v": value})


def test_a_field_may_have_any_name_that_a_path_can_hold(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    names = ["\N{GRINNING FACE}", "\ufdd0", "\ue000", "naïve", "a b", "[0]", "#", "*", "a-b", "1"]
    with store.group():
        for number, name in enumerate(names):
            body = json.dumps({name: {name: number}}, ensure_ascii=False).encode()
            store.write(RequestId(b"c" * 16, number + 1), [Write("c", str(number), body)], NOW)
            store.indexes.create(define("c", (f"{name}.{name}",)))
    opened = Documents.open(tmp_path)
    for number, name in enumerate(names):
        assert [key for key, _ in opened.find("c", {f"{name}.{name}": number})] == [str(number)]
        assert next(opened.find("c", sort=f"-{name}.{name}"))[0] == str(number)
    with pytest.raises(InvalidError, match="is not a field path"):
        opened.find("c", {"a\x1bb": 1})
    opened.close()
    store.close()


def test_numbers_are_found_where_sqlite_reads_digits_otherwise(tmp_path: Path) -> None:
    """Where a long double has no more than a double, SQLite takes some texts for the number beside theirs."""
    numbers = [number / 7 for number in range(1, 60)] + [1e15 / 7, 3e-9 / 7, 0.1, 5e18 / 3]

    def read(body: str, path: str) -> Any:
        value = json.loads(body)
        for part in path.split('"')[1::2]:
            value = value[part]
        return math.nextafter(value, math.inf) if isinstance(value, float) and value % 2 < 1 else value

    bodies = numbered(({"v": number} for number in numbers), 3)
    with reader_of(tmp_path, {"c": bodies}) as opened:
        opened._connection.create_function("json_extract", 2, read, deterministic=True)
        for at, number in enumerate(numbers):
            assert [key for key, _ in opened.find("c", {"v": number})] == [f"{at:03}"]
            assert opened.count("c", {"v": {"$in": [number, 1.5]}}) == 1
            assert opened.count("c", {"v": {"$gt": number}}) == sum(one > number for one in numbers)
        order = sorted(bodies, key=lambda key: bodies[key]["v"])
        keys, after = list[str](), None
        while page := list(opened.find("c", sort="v", limit=5, after=after)):
            keys += [key for key, _ in page]
            after = make_cursor(("v",), None, *page[-1])
        assert keys == order
        assert opened.distinct("c", "v") == sorted(numbers)
