"""``$text``: words of documents, ranked and marked; whatever a person types."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import (
    BusyError,
    CorruptError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnsupportedError,
)
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.storage.documents import words
from entgldb.storage.documents.query import Documents
from entgldb.storage.documents.reading import Marked
from entgldb.storage.indexes import building, catalogue
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.rules.indexing.words import TEXT_CHARS_MAX, WORDS_MAX, expression
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
NOTES: dict[str, dict[str, Any]] = {
    "apple": {"title": "Apple tree", "body": "An apple tree in the garden, an APPLE a day", "n": 1},
    "pie": {"title": "Pie", "body": "Apple pie with cinnamon; the tree is outside", "n": 2},
    "cafe": {"title": "Café", "body": "Crème brûlée und Äpfel", "n": 3},
    "tags": {"title": ["red apple", "green"], "body": {"de": "Baum"}, "n": 4},
    "odd": {"title": 42, "n": 5},
    "none": {"n": 6},
}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documents]:
    directory = tmp_path_factory.mktemp("notes")
    with closing(Store.open(directory, "lan-1", NOW)) as store:
        with store.group():
            many = {f"m{n:04}": {"title": "many", "n": n} for n in range(PAGE_ROWS_MAX + 100)}
            writes = [
                Write("notes", key, json.dumps(body).encode()) for key, body in {**NOTES, **many}.items()
            ]
            store.write(RequestId(b"c" * 16, 1), writes, NOW)
            store.indexes.create(define("notes", ("title", "body"), text=True))
        with closing(Documents.open(directory)) as documents:
            yield documents


def found(notes: Documents, text: str, **how: Any) -> list[str]:
    return [key for key, _ in notes.find("notes", {"$text": text}, **how)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("apple", {"apple", "pie", "tags"}),
        ("APPLE tree", {"apple", "pie"}),
        ('"apple tree"', {"apple"}),
        ("app* cinn*", {"pie"}),
        ("apple -tree", {"tags"}),
        ('apple -"apple tree" -green', {"pie"}),
        ("cafe brulee apfel", {"cafe"}),
        ("42", {"odd"}),
        ("baum", {"tags"}),
        ("tree-outside", set()),
        ("apple AND", set()),
        ("title:apple", set()),
        ("nowhere", set()),
    ],
)
def test_words_find_their_documents(notes: Documents, text: str, keys: set[str]) -> None:
    assert set(found(notes, text)) == keys
    assert notes.count("notes", {"$text": text}) == len(keys)


def test_the_best_comes_first_and_other_conditions_hold(notes: Documents) -> None:
    assert found(notes, "apple")[0] == "apple"
    assert found(notes, "apple", sort="-n") == ["tags", "pie", "apple"]
    assert found(notes, "apple", sort="n", limit=1, skip=1) == ["pie"]
    both = {"$text": "apple", "n": {"$gte": 2}, "$or": [{"n": 2}, {"n": 3}]}
    assert [key for key, _ in notes.find("notes", both)] == ["pie"]


def test_the_best_are_those_of_a_plain_sort_by_rank(notes: Documents) -> None:
    connection = notes._connection
    for text, filter in (("apple", {}), ("apple tree", {}), ("apple", {"n": {"$gt": 1}}), ("many", {})):
        everything = [
            (key, json.loads(body).get("n", 0))
            for key, body in connection.execute(
                "SELECT key, body FROM _entgldb_text_1(?) f JOIN _entgldb_documents ON id = f.rowid"
                " ORDER BY f.rank, id",
                (text,),
            )
        ]
        wanted = [key for key, n in everything if not filter or n > 1]
        asked = {"$text": text, **filter}
        assert [key for key, _ in notes.find("notes", asked, limit=3)] == wanted[:3]
        assert [key for key, _ in notes.find("notes", asked, limit=3, skip=1)] == wanted[1:4]
        marked = notes.read_all("notes", asked, limit=3, highlight=("[", "]"))
        assert [key for key, _ in marked] == wanted[:3]
        assert [key for key, _ in notes.find("notes", asked)] == wanted


def test_words_that_most_documents_have_do_not_rank_them(
    notes: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[str] = []
    notes._apart()._connection.set_trace_callback(lambda sql: ranked.append(sql) if "rank" in sql else None)
    monkeypatch.setattr(words, "RANKED_MAX", 3)
    try:
        assert found(notes, "many", limit=2) == ["m0000", "m0001"]
        assert found(notes, "many") == [f"m{n:04}" for n in range(PAGE_ROWS_MAX + 100)]
        assert ranked == []
        # not more than three have them; more than three, but not half of all
        assert found(notes, "apple", limit=1) == ["apple"]
        monkeypatch.setattr(words, "RANKED_MAX", 1)
        assert found(notes, "apple", limit=1) == ["apple"]
        assert len(ranked) == 2
    finally:
        notes._apart()._connection.set_trace_callback(None)


def test_long_results_come_page_by_page(notes: Documents) -> None:
    assert len(found(notes, "many")) == PAGE_ROWS_MAX + 100
    assert found(notes, "many", sort="-n")[0] == f"m{PAGE_ROWS_MAX + 99:04}"


def test_a_snippet_marks_the_words(notes: Documents) -> None:
    how: dict[str, Any] = {"limit": 5, "highlight": ("[", "]")}
    snippets = {}
    for key, read in notes.read_all("notes", {"$text": "apple*"}, **how):
        assert isinstance(read, Marked)
        snippets[key] = read.snippet
    assert snippets["pie"] == "[Apple] pie with cinnamon; the tree is outside"
    assert snippets["apple"] == "An [apple] tree in the garden, an [APPLE] a day"
    with pytest.raises(InvalidError, match=r"has no \$text"):
        notes.read_all("notes", {"n": 1}, **how)


@pytest.mark.parametrize(
    "bad", [{"limit": None}, {"limit": 501}, {"highlight": "[]"}, {"highlight": ("a" * 65, "")}]
)
def test_highlight_is_bounded(notes: Documents, bad: dict[str, Any]) -> None:
    how: dict[str, Any] = {"limit": 5, "highlight": ("[", "]"), **bad}
    if how["highlight"] == "[]":
        how["highlight"] = "[", 1
    with pytest.raises(InvalidError):
        notes.read_all("notes", {"$text": "apple"}, **how)


@pytest.mark.parametrize("text", ["", " - ", "-apple", '""', "***", 7, None, ["apple"], {"$search": "apple"}])
def test_what_names_no_word_is_refused(notes: Documents, text: Any) -> None:
    with pytest.raises(InvalidError):
        found(notes, text)


def test_text_is_bounded(notes: Documents) -> None:
    assert found(notes, "zz " * WORDS_MAX) == []
    with pytest.raises(TooLargeError, match="WORDS_MAX = 64"):
        found(notes, "zz " * (WORDS_MAX + 1))
    with pytest.raises(TooLargeError, match="TEXT_CHARS_MAX = 4096"):
        found(notes, "a" * (TEXT_CHARS_MAX + 1))


def test_text_stands_at_the_top_alone(notes: Documents) -> None:
    for nested in ({"$or": [{"$text": "apple"}, {"n": 1}]}, {"title": {"$text": "apple"}}):
        with pytest.raises(UnsupportedError, match=r"\$text"):
            notes.find("notes", nested)


def test_words_need_an_index_that_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "INDEX_STEP_ROWS", 1)
    store = Store.memory("lan-1", b"w", NOW)
    documents = Documents(store.connection)
    with pytest.raises(NotFoundError, match="has no index of words"):
        found(documents, "apple")
    with store.group():
        writes = [Write("notes", key, b'{"title":"apple"}') for key in "ab"]
        store.write(RequestId(b"c" * 16, 1), writes, NOW)
        store.indexes.create(define("notes", ("title",), text=True))
    with pytest.raises(BusyError, match="is being built"):
        found(documents, "apple")
    more = True
    while more:
        with store.group():
            more = store.indexes.tend()
    assert sorted(found(documents, "apple")) == ["a", "b"]


def test_without_fts5_words_are_refused_by_name(notes: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    none = "SELECT 1 FROM pragma_module_list WHERE name = 'fts99'"
    monkeypatch.setattr("entgldb.storage.documents.finding.HAS_WORDS", none)
    monkeypatch.setattr(catalogue, "HAS_WORDS", none)
    with pytest.raises(UnsupportedError, match=f"SQLite {sqlite3.sqlite_version} .* has no FTS5"):
        found(notes, "apple")
    store = Store.memory("lan-1", b"w", NOW)
    with store.group(), pytest.raises(UnsupportedError, match="has no FTS5"):
        store.indexes.create(define("notes", ("title",), text=True))
    with store.group():
        store.indexes.create(define("notes", ("title",)))
    assert len(catalogue.list_indexes(store.connection)) == 1


@settings(max_examples=500, deadline=None)
@example('"')
@example('-"a')
@example("a\0b")
@example("NEAR(a b) OR {x}: ^a + b")
@example("\u0301 ½ ٣")
@given(st.text(st.characters(codec="utf-8") | st.sampled_from('ab "*-+():^{}'), max_size=30))
def test_whatever_is_typed_is_words_or_refused(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(a, b, prefix='2 3')")
        connection.execute("INSERT INTO f VALUES ('some a text', 'b')")
        with contextlib.suppress(InvalidError):
            wanted = expression(text)
            connection.execute("SELECT rowid FROM f WHERE f MATCH ?", (wanted,)).fetchall()


def test_a_file_with_words_is_searched_by_plain_sqlite(notes: Documents, tmp_path: Path) -> None:
    file = next(row[2] for row in notes._all("PRAGMA database_list"))
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT d.key FROM _entgldb_text_1('cinnamon') f JOIN _entgldb_documents d ON d.id = f.rowid"
        ).fetchall()
    assert rows == [("pie",)]


def test_a_file_with_words_is_not_opened_where_sqlite_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(tmp_path, "lan-1", NOW)) as store, store.group():
        store.indexes.create(define("notes", ("title",)))
    none = "SELECT 1 FROM pragma_module_list WHERE name = 'fts99'"
    with monkeypatch.context() as without:
        without.setattr(catalogue, "HAS_WORDS", none)
        with closing(Store.open(tmp_path, "lan-1", NOW)) as store:
            assert len(catalogue.list_indexes(store.connection)) == 1
    with closing(Store.open(tmp_path, "lan-1", NOW)) as store, store.group():
        store.indexes.create(define("notes", ("title",), text=True))
    monkeypatch.setattr(catalogue, "HAS_WORDS", none)
    with pytest.raises(UnsupportedError, match="has no FTS5"):
        Store.open(tmp_path, "lan-1", NOW)


def test_damaged_words_are_built_again(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "lan-1", NOW)) as store:
        with store.group():
            store.write(RequestId(b"c" * 16, 1), [Write("notes", "a", b'{"title":"apple"}')], NOW)
            store.indexes.create(define("notes", ("title",), text=True))
        store.connection.execute("UPDATE _entgldb_text_1_data SET block = x'00' WHERE id > 10")
        with closing(Documents.open(tmp_path)) as documents:
            with pytest.raises(CorruptError):
                found(documents, "apple")
            with store.group():
                store.indexes.rebuild("notes", "text")
            with store.group():
                store.indexes.tend()
            assert found(documents, "apple") == ["a"]
