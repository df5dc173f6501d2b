"""Filters, orders and cursors in SQL, with indexes and without, and the plain matcher against the oracle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import open_memory
from entgldb.storage.rules.filtering.cursor import make_cursor
from entgldb.storage.rules.filtering.parser import parse_filter
from tests.support import oracle
from tests.support.documents import make_index

CASES: Final = int(os.environ.get("ENTGLDB_QUERY_CASES", "5000"))
"""Filters, each asked of the plain matcher and of SQL about a whole set of documents."""
FILTERS: Final = 12
"""Drawn for one set of documents: each is a case by itself, and four more with each of the others."""
EXAMPLES: Final = -(-CASES // (FILTERS + 4 * comb(FILTERS, 2)))
COLLECTIONS: Final = ("bare", "indexed", "bare", "compound")
"""Each in its turn is asked about a case."""
PATHS: Final = ("a", "b", "a.b", "a.b.a", "a.0", "a.0.b", "b.a", "é")
EDGES: Final = [sign * (2**power + more) for sign in (1, -1) for power in (53, 63, 64) for more in (-1, 0, 1)]
NUMBERS: Final[list[Any]] = [
    0,
    1,
    -1,
    1.0,
    0.1,
    -0.5,
    2,
    10**30,
    1e30,
    1.5e300,
    *EDGES,
    *map(float, EDGES[2:5]),
]
TEXTS: Final = [
    "",
    "a",
    "ab",
    "b",
    "B",
    "É",
    "é",
    "ß",
    "SS",
    "[",
    "[1]",
    "{",
    '{"a":1}',
    "\ud7ff",
    "\ue000",
    "😀",
    "\U0010ffff",
    "1",
    "a\nb",
    "%",
]
SCALARS: Final[list[Any]] = [None, True, False, *NUMBERS, *TEXTS]
PATTERNS: Final = ["a", "^a", "^ab?$", "[a-z]+", "^$", ".", r"\d|B", "(a|b)+b", r"^\w", "a.b", "^b|e"]

COMMON: Final[list[Any]] = [None, True, False, 0, 1, 1.0, "a", "[1]"]
"""These meet each other most."""

scalars = st.sampled_from(COMMON) | st.sampled_from(SCALARS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abé"), inner, max_size=3),
    max_leaves=5,
)
# left to itself, hypothesis nests nearly everything
documents = st.dictionaries(st.sampled_from("aabé"), scalars | scalars | values, min_size=1, max_size=3)
paths = st.sampled_from("aabé") | st.sampled_from(PATHS)
lists = st.lists(values, max_size=4)
ordered = st.sampled_from([0, 1, 1.0, "a", "[1]"]) | st.sampled_from([*NUMBERS, *TEXTS])
kinds = st.sampled_from(["null", "bool", "number", "string", "array", "object"])
leaves: Final[dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(("$eq", "$ne"), values),
    **dict.fromkeys(oracle.ORDERED, ordered),
    **dict.fromkeys(("$in", "$nin", "$all"), lists),
    "$exists": st.booleans(),
    "$type": kinds | st.lists(kinds, min_size=1, max_size=3),
    "$size": st.integers(0, 3),
    **dict.fromkeys(("$contains", "$startsWith"), st.sampled_from(TEXTS)),
    "$regex": st.sampled_from(PATTERNS),
}
leaf = st.sampled_from(sorted(leaves)).flatmap(lambda name: st.fixed_dictionaries({name: leaves[name]}))


def merged(some: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for one in some for name, value in one.items()}


def operators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(leaf, min_size=1, max_size=2).map(merged)
    return (
        leaf
        | several
        | several.map(lambda one: {"$not": one})
        | (several | inner).map(lambda one: {"$elemMatch": one})
        | several.map(lambda one: {"$elemMatch": {"$elemMatch": one}})
    )


below = values | operators(st.dictionaries(paths, leaf, max_size=2))
plain_filters = st.dictionaries(paths, below, min_size=1, max_size=2)
filters = plain_filters | st.builds(
    lambda name, some, more: {name: some, **more},
    st.sampled_from(["$and", "$or", "$nor"]),
    st.lists(plain_filters, min_size=1, max_size=3),
    st.just({}) | plain_filters,
)
sorts = st.lists(
    st.tuples(st.sampled_from(["", "-"]), paths).map("".join), max_size=2, unique_by=lambda n: n.lstrip("-")
)


class Rig:
    """One database in memory with the same documents twice: in ``indexed`` by an index on every path."""

    def __init__(self) -> None:
        self._connection = open_memory()
        for path in PATHS:
            make_index(self._connection, "indexed", path)
        make_index(self._connection, "compound", "a", "-b")
        make_index(self._connection, "compound", "a.b", "a", "b.a")
        self._connection.execute("INSERT INTO _entgldb_meta VALUES ('file_id', 'f')")
        self._connection.execute("INSERT INTO _entgldb_origins (id, name, seq, head) VALUES (1, 'o', 1, '')")
        self.documents = Documents(self._connection)
        self.cases = 0

    def fill(self, bodies: dict[str, Any]) -> None:
        rows = [
            (collection, key, json.dumps(body, ensure_ascii=False))
            for collection in ("bare", "indexed", "compound")
            for key, body in bodies.items()
        ]
        with self._connection:
            self._connection.execute("DELETE FROM _entgldb_documents")
            self._connection.executemany(
                "INSERT INTO _entgldb_documents (collection, key, body, origin, seq, hlc, lsn)"
                " VALUES (?, ?, ?, 1, 1, 1, 1)",
                rows,
            )


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig()


def combined(
    drawn: list[dict[str, Any]], found: list[set[str]], keys: set[str]
) -> Iterator[tuple[dict[str, Any], set[str] | None]]:
    """Filters by themselves and each with each, since drawing them takes longer than asking them.

    ``found``: the keys that each finds. With each filter come those that it has to find, or None where they
    do not follow from ``found``.
    """
    yield from zip(drawn, found, strict=True)
    for (one, ones), (other, others) in combinations(zip(drawn, found, strict=True), 2):
        yield {"$or": [one, other]}, ones | others
        yield {"$and": [one, {"$nor": [other]}]}, ones - others
        yield {"$nor": [other, {"$and": [one]}]}, keys - others - ones
        yield {**other, **one}, None if one.keys() & other.keys() else ones & others


@pytest.mark.timeout(600)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_sql_and_matcher_find_what_the_oracle_finds(rig: Rig, data: st.DataObject) -> None:
    bodies = {f"k{n}": body for n, body in enumerate(data.draw(st.lists(documents, min_size=4, max_size=10)))}
    rig.fill(bodies)
    collation = "nocase" if data.draw(st.integers(0, 7)) == 0 else None

    def by_oracle(wanted: dict[str, Any]) -> set[str]:
        return {key for key, body in bodies.items() if oracle.matches(body, wanted, bool(collation))}

    drawn = data.draw(st.lists(filters, min_size=FILTERS, max_size=FILTERS))
    for wanted, known in combined(drawn, [by_oracle(one) for one in drawn], set(bodies)):
        expected = by_oracle(wanted) if known is None else known
        node = parse_filter(wanted, collation)
        assert {key for key, body in bodies.items() if node.matches(body)} == expected, wanted
        collection = COLLECTIONS[rig.cases % len(COLLECTIONS)]
        found = rig.documents.read_all(collection, wanted, collation=collation, limit=100)
        assert [key for key, _ in found] == sorted(expected), (collection, wanted, bodies)
        rig.cases += 1


@settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_orders_cursors_and_distinct_are_those_of_the_oracle(rig: Rig, data: st.DataObject) -> None:
    bodies = {f"k{n}": body for n, body in enumerate(data.draw(st.lists(documents, min_size=4, max_size=10)))}
    rig.fill(bodies)
    for sort in data.draw(st.lists(sorts, min_size=8, max_size=8)):
        collation = data.draw(st.sampled_from([None, None, "nocase"]))
        expected = oracle.ordered(bodies, sort, bool(collation))
        for collection in ("bare", "indexed"):
            how: dict[str, Any] = {"sort": sort, "collation": collation}
            assert [key for key, _ in rig.documents.read_all(collection, **how)] == expected, sort
            assert paged(rig, collection, how) == expected, (collection, sort, bodies)
    path = data.draw(paths)
    different: list[Any] = []
    for value in (value for body in bodies.values() for value in oracle.places(body, path)):
        for one in value if type(value) is list else [value]:
            if one is not oracle.Nothing and not any(oracle.equal(one, other, False) for other in different):
                different.append(one)
    for collection in ("bare", "indexed"):
        found = rig.documents.distinct(collection, path)
        assert len(found) == len(different)
        assert all(any(oracle.equal(one, other, False) for other in different) for one in found)
        assert all(oracle.compare(*pair) <= 0 for pair in pairwise(found))


def paged(rig: Rig, collection: str, how: dict[str, Any]) -> list[str]:
    """The keys in an order, two by two, each time behind the cursor of the last one."""
    keys: list[str] = []
    after = None
    while page := list(rig.documents.find(collection, **how, limit=2, after=after)):
        keys += [key for key, _ in page]
        key, body = page[-1]
        after = make_cursor(tuple(how["sort"]), how["collation"], key, body)
        assert len(keys) < 100
    return keys


def test_enough_was_asked(rig: Rig) -> None:
    assert rig.cases >= CASES
