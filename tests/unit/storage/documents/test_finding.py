"""Cursors, projections of plans, and limits of reading; an index is used where one can be."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, InvalidError, TooLargeError, UnsupportedError
from entgldb.storage.documents import finding
from entgldb.storage.documents.order import SORT_FIELDS_MAX
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.filtering import cursor
from entgldb.storage.rules.filtering.cursor import make_cursor
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.support.documents import NOW, reader_of

MANY = 2000


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    bodies: dict[str, dict[str, Any]] = {
        "plain": {f"{n:04}": {"n": n, "by": {"ten": n // 10}, "word": f"w{n % 7}"} for n in range(MANY)},
        "mixed": {f"{n:04}": {"n": n, "by": {"ten": n // 10}} for n in range(MANY)},
        "few": {"a": {"n": 1}},
    }
    bodies["mixed"] |= {"arr": {"n": [3, 4], "by": [{"ten": 5}, {"ten": "x"}]}, "null": {"n": None}}
    indexes = [(name, path) for name in ("plain", "mixed") for path in ("n", "by.ten")]
    with reader_of(tmp_path_factory.mktemp("finding"), bodies, *indexes) as opened:
        yield opened


def keys(documents: Documents, collection: str, *arguments: Any, **options: Any) -> list[str]:
    return [key for key, _ in documents.find(collection, *arguments, **options)]


def test_dotted_paths_reach_into_arrays_by_their_index(documents: Documents) -> None:
    assert keys(documents, "mixed", {"by.ten": 5}) == [*(f"005{n}" for n in range(10)), "arr"]
    assert keys(documents, "mixed", {"by.ten": {"$gte": "a"}}) == ["arr"]
    assert keys(documents, "mixed", {"n": 3}) == ["0003", "arr"]
    assert keys(documents, "mixed", {"n": None}) == ["null"]
    for wanted in ({"by.ten": 5}, {"by.ten": {"$gte": 199}}, {"n": {"$in": [3, 4]}}):
        plan = documents.explain("mixed", wanted)
        assert plan.indexes == (next(iter(wanted)),)
        assert plan.read <= 12


@pytest.mark.parametrize("sort", ["n", "-n"])
def test_a_page_far_behind_is_found_by_the_index(documents: Documents, sort: str) -> None:
    middle = f"{MANY // 2:04}"
    after = make_cursor((sort,), None, middle, {"n": MANY // 2})
    asked: list[str] = []
    documents._apart()._connection.set_trace_callback(asked.append)
    found = keys(documents, "plain", sort=sort, after=after, limit=2)
    documents._apart()._connection.set_trace_callback(None)
    assert found == (["1001", "1002"] if sort == "n" else ["0999", "0998"])
    found_by = next(sql for sql in asked if sql.startswith("SELECT key"))
    plan = " / ".join(row[3] for row in documents._apart()._all(f"EXPLAIN QUERY PLAN {found_by}"))
    assert "_entgldb_ix_" in plan
    assert "v0>?" in plan if sort == "n" else "v0<?" in plan
    assert "TEMP B-TREE" not in plan


def test_a_cursor_goes_on_where_its_document_was(documents: Documents) -> None:
    """Also where that document is gone, or a page begins in an array or behind all numbers."""
    gone = make_cursor(("n",), None, "0005x", {"n": 5})
    assert keys(documents, "plain", sort="n", after=gone, limit=2) == ["0006", "0007"]
    ends = make_cursor(("-n",), None, "arr", {"n": [1]})
    assert keys(documents, "mixed", sort="-n", after=ends, limit=1) == ["1999"]
    last = make_cursor(("-n",), None, "0000", {"n": 0})
    assert keys(documents, "mixed", sort="-n", after=last) == ["null"]
    assert keys(documents, "plain", {"word": "w1"}, after=make_cursor((), None, "0009", {}), limit=1) == [
        "0015"
    ]


def packed(*said: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "é",
        "AAAA",
        packed(["n"], None, [[1, 5]]),
        packed(["n"], None, [], "k"),
        packed(["n"], None, [[1, "5"]], "k"),
        packed(["n"], None, [[1, True]], "k"),
        packed(["n"], None, [[1, float("inf")]], "k"),
        packed(["n"], None, [[2, 5]], "k"),
        packed(["n"], None, [[2, "\ud800"]], "k"),
        packed(["n"], None, [[True, 5]], "k"),
        packed(["n"], None, [[4, 0]], "k"),
        packed(["n"], None, [[3, [1]]], "k"),
        packed(["n"], None, [[1, 5]], "\ud800"),
        packed(["n"], None, [[1, 5]], 5),
        packed(5, None, [[1, 5]], "k"),
        packed([5], None, [[1, 5]], "k"),
        3,
    ],
)
def test_a_text_that_is_no_cursor_is_refused(documents: Documents, text: Any) -> None:
    good = packed(["n"], None, [[1, 5]], "k")
    assert keys(documents, "few", sort="n", after=good) == []
    with pytest.raises(InvalidError, match="is no cursor"):
        keys(documents, "few", sort="n", after=text)


def test_a_cursor_is_good_in_its_own_order_alone(documents: Documents) -> None:
    after = make_cursor(("n",), None, "a", {"n": 1})
    for other in ({"sort": "-n"}, {"sort": ["n", "m"]}, {}, {"sort": "n", "collation": "nocase"}):
        with pytest.raises(InvalidError, match="another order"):
            documents.find("few", after=after, **other)


def test_limits_of_reading_are_named(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLargeError, match="SORT_FIELDS_MAX = 16"):
        documents.find("few", sort=[f"f{n}" for n in range(SORT_FIELDS_MAX + 1)])
    assert keys(documents, "few", sort=[f"f{n}" for n in range(SORT_FIELDS_MAX)]) == ["a"]
    monkeypatch.setattr(finding, "DISTINCT_MAX", MANY + 1)
    assert documents.distinct("plain", "n") == [*range(MANY)]
    assert documents.distinct("mixed", "n") == [None, *range(MANY)]
    monkeypatch.setattr(finding, "DISTINCT_MAX", MANY - 1)
    for collection in ("plain", "mixed"):
        with pytest.raises(TooLargeError, match="DISTINCT_MAX = 1999"):
            documents.distinct(collection, "n")
    monkeypatch.setattr(cursor, "CURSOR_CHARS_MAX", 100)
    with pytest.raises(TooLargeError, match="CURSOR_CHARS_MAX = 100"):
        make_cursor(("n",), None, "k", {"n": "x" * 100})
    with pytest.raises(InvalidError, match="is no cursor"):
        documents.find("few", after="A" * 101)


@pytest.mark.parametrize("bad", ["NOCASE", "binary", 3])
def test_a_collation_that_there_is_not_is_refused(documents: Documents, bad: Any) -> None:
    with pytest.raises(UnsupportedError, match="collation"):
        documents.find("few", {"a": "b"}, collation=bad)
    with pytest.raises(UnsupportedError, match="collation"):
        documents.find("few", sort="a", collation=bad)


@pytest.mark.parametrize("bad", ["", "a..b", "$a", "'"])
def test_a_bad_path_is_refused_everywhere(documents: Documents, bad: str) -> None:
    asks = [
        lambda: documents.find("few", sort=bad),
        lambda: documents.distinct("few", bad),
        lambda: documents.explain("few", sort=bad),
        lambda: documents.aggregate("few", [{"$sort": bad}]),
    ]
    for ask in asks:
        with pytest.raises(EntglError, match="field path"):
            ask()


@pytest.mark.parametrize(
    ("wanted", "sort", "text"),
    [
        ({"n": 7}, None, "1 of 2,000 documents are looked at, by the index on n; 1 match."),
        (
            {"n": {"$lt": 20}, "word": "w1"},
            None,
            "20 of 2,000 documents are looked at, by the index on n; 3 match.",
        ),
        (
            {"$or": [{"n": 7}, {"by.ten": 0}]},
            None,
            "10 of 2,000 documents are looked at, by the index on n and on by.ten; 10 match.",
        ),
        (
            {"n": {"$lt": 2}},
            "word",
            "2 of 2,000 documents are looked at, by the index on n; 2 match. They are sorted by word.",
        ),
        (
            {"word": "w1"},
            None,
            "2,000 of 2,000 documents are looked at, without an index; 286 match."
            " An index would help: entgldb index create plain word",
        ),
        (
            {"other": {"$gt": 1}, "word": {"$in": ["w1"]}},
            None,
            "2,000 of 2,000 documents are looked at, without an index; 0 match."
            " An index would help: entgldb index create plain word",
        ),
        (
            {"$or": [{"word": "w1"}, {"other": {"$startsWith": "a"}}, {"n": 1}]},
            None,
            "2,000 of 2,000 documents are looked at, without an index; 286 match."
            " Indexes would help: entgldb index create plain word && entgldb index create plain other",
        ),
        (
            {"word": {"$contains": "w1"}},
            "-word",
            "2,000 of 2,000 documents are looked at, without an index; 286 match. They are sorted by -word."
            " An index would help: entgldb index create plain word",
        ),
        (
            {"word": {"$ne": "w1"}},
            None,
            "2,000 of 2,000 documents are looked at, without an index; 1,714 match.",
        ),
        ({}, "n", "2,000 of 2,000 documents are looked at, by the index on n; 2,000 match."),
    ],
)
def test_explain_says_how(documents: Documents, wanted: Any, sort: str | None, text: str) -> None:
    assert str(documents.explain("plain", wanted, sort=sort)) == text


def test_nocase(documents: Documents) -> None:
    assert documents.count("plain", {"word": "W1"}, collation="nocase") == 286
    assert documents.count("plain", {"word": {"$regex": "^W[1]$"}}, collation="nocase") == 286
    assert documents.count("plain", {"word": "W1"}) == 0
    assert documents.explain("plain", {"word": "W1"}, collation="nocase").missing == ()


@pytest.mark.parametrize("how", ["find", "count", "distinct"])
def test_a_write_between_plan_and_reading_hides_no_document(tmp_path: Path, how: str) -> None:
    """Before and after it the document matches: by its number, then by an element of its array."""
    store = Store.open(tmp_path, "lan-1", NOW)

    def put(number: int, value: Any) -> None:
        with store.group():
            body = json.dumps({"n": value}).encode()
            store.write(RequestId(b"c" * 16, number), [Write("c", "k", body)], NOW)

    with store.group():
        store.indexes.create(define("c", ("n",)))
    put(1, 5)
    building = True
    while building:
        with store.group():
            building = store.indexes.tend()
    documents = Documents.open(tmp_path)
    finder = documents.finder
    ask = finder.ask
    changed: list[str] = []

    def asked(sql: str, values: Any) -> Any:
        found = ask(sql, values)
        if "EXISTS" in sql and not changed:
            changed.append(sql)
            put(2, [5, 6])
        return found

    finder.ask = asked
    wanted = {"n": {"$in": [5, 7]}}
    if how == "find":
        assert keys(documents, "c", wanted) == ["k"]
    elif how == "count":
        assert documents.count("c", wanted) == 1
    else:
        assert documents.distinct("c", "n", wanted) == [5]
    assert changed
    assert documents.distinct("c", "n", wanted) == [5, 6]
    documents.close()
    store.close()
