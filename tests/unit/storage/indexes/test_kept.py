"""An index has what its documents say, whatever was written before, during and after its building."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import (
    EntglError,
    ErrorCode,
    ExistsError,
    InvalidError,
    NotFoundError,
    TooLargeError,
)
from entgldb.messages.limits import (
    INDEX_ENTRIES_MAX,
    INDEX_STEP_ROWS,
    INDEXES_MAX,
    INDEXES_PER_COLLECTION_MAX,
)
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import register
from entgldb.storage.indexes import building, catalogue
from entgldb.storage.indexes.checking import faults
from entgldb.storage.indexes.tables import table
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
KINDS: list[dict[str, Any]] = [
    {"paths": ("a",)},
    {"paths": ("a", "-b.c")},
    {"paths": ("b.c",)},
    {"paths": ("a",), "where": {"b.c": {"$gte": 0}}, "name": "partial"},
    {"paths": ("a", "b.c"), "unique": True, "name": "unique"},
    {"paths": ("a", "b.c"), "text": True},
]


class Node:
    """A store in memory."""

    def __init__(self) -> None:
        self.store = Store.memory("lan-1", b"n", NOW)
        self.connection = self.store.connection
        self._requests = 0

    def put(self, bodies: dict[str, Any], collection: str = "c") -> None:
        self._requests += 1
        writes = [
            Write(collection, key, None if body is None else json.dumps(body).encode())
            for key, body in bodies.items()
        ]
        with self.store.group(), self.store.savepoint(lazily=True):
            self.store.write(RequestId(b"r" * 16, self._requests), writes, NOW)

    def index(self, *paths: str, build: bool = True, **kind: Any) -> None:
        with self.store.group():
            self.store.indexes.create(define("c", paths, **kind))
        if build:
            self.build()

    def build(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        with self.store.group():
            return self.store.indexes.tend()

    def faults(self) -> list[str]:
        return [
            f"{index.definition.name}: {text}"
            for index in catalogue.list_indexes(self.connection)
            for text in faults(self.connection, index, lambda _: None, still=True)
        ]

    def entries(self, number: int = 1) -> list[tuple[Any, ...]]:
        return self.connection.execute(f"SELECT k, n, v0 FROM {table(number)} ORDER BY k, n").fetchall()

    def found(self, wanted: dict[str, Any], **how: Any) -> list[str]:
        if not self.connection.execute("SELECT 1 FROM _entgldb_meta WHERE name = 'file_id'").fetchone():
            self.connection.execute("INSERT INTO _entgldb_meta VALUES ('file_id', 'f')")
        return [key for key, _ in Documents(self.connection).find("c", wanted, **how)]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**63, -(2**70), 0.5, "x", "y z", "[", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ac"), inner, max_size=2),
    max_leaves=5,
)
bodies = st.none() | st.fixed_dictionaries(
    {}, optional={"a": values, "b": st.fixed_dictionaries({}, optional={"c": values}) | values}
)
works = st.lists(
    st.dictionaries(st.sampled_from("pqrstu"), bodies, min_size=1, max_size=4), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=works, during=works, after=works)
def test_every_index_has_what_its_documents_say(
    monkeypatch: pytest.MonkeyPatch, before: list[Any], during: list[Any], after: list[Any]
) -> None:
    monkeypatch.setattr(building, "INDEX_STEP_ROWS", 1)
    node = Node()
    for some in before:
        write_what_may_be(node, some)
    for kind in KINDS:
        node.index(
            *kind["paths"], build=False, **{name: one for name, one in kind.items() if name != "paths"}
        )
    for some in during:
        node.step()
        write_what_may_be(node, some)
    node.build()
    assert node.faults() == []
    for some in after:
        write_what_may_be(node, some)
    assert node.faults() == []


def write_what_may_be(node: Node, some: dict[str, Any]) -> None:
    """What the unique index refuses is not written."""
    for key, body in some.items():
        with contextlib.suppress(ExistsError):
            node.put({key: body})


def test_a_large_collection_is_built_in_steps_while_it_is_written_to() -> None:
    node = Node()
    count = INDEX_STEP_ROWS + 500
    for start in range(0, count, 500):
        node.put({f"k{n:05}": {"a": n} for n in range(start, start + 500)})
    node.index("a", build=False)
    (under_way,) = catalogue.list_indexes(node.connection)
    assert under_way.walked == INDEX_STEP_ROWS
    assert under_way.reached == f"k{INDEX_STEP_ROWS - 1:05}"
    assert node.store.status()["indexes"] == {
        "ready": 0,
        "building": [{"index": "c/a", "walked": INDEX_STEP_ROWS}],
        "refused": [],
    }
    assert node.found({"a": 7}) == ["k00007"]
    node.put({"k00001": {"a": -1}, "k01400": {"a": -1}, "k00002": None, "k01401": None, "a": {"a": -1}})
    again = Store.reopen(node.store, NOW)
    with again.group():
        assert not again.indexes.tend()
    assert catalogue.list_indexes(node.connection)[0].reached is None
    assert node.faults() == []
    assert node.found({"a": -1}) == ["a", "k00001", "k01400"]


def test_a_step_ends_where_bodies_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "INDEX_STEP_BYTES", 1000)
    node = Node()
    node.put({f"k{n}": {"a": "x" * 400} for n in range(9)})
    node.index("a", build=False)
    assert catalogue.list_indexes(node.connection)[0].walked == 3
    node.build()
    assert node.faults() == []


def test_a_document_with_too_many_elements_is_looked_at_by_every_query() -> None:
    node = Node()
    node.put({"few": {"a": list(range(5))}, "many": {"a": list(range(INDEX_ENTRIES_MAX + 1))}})
    node.index("a")
    assert [n for key, n, _ in node.entries() if key == "many"] == [-1, 0]
    assert node.found({"a": 3}) == ["few", "many"]
    assert node.found({"a": INDEX_ENTRIES_MAX}) == ["many"]
    assert node.found({"$or": [{"a": 4}, {"a": 900}]}) == ["few", "many"]
    assert node.found({"a": -1}) == []


def test_an_index_is_made_once_and_another_of_its_name_is_refused() -> None:
    node = Node()
    for _ in range(2):
        node.index("a", "b", name="both")
    assert len(catalogue.list_indexes(node.connection)) == 1
    with pytest.raises(ExistsError, match="another index 'both', over a, b"):
        node.index("b", "a", name="both")
    with pytest.raises(ExistsError):
        node.index("a", "b", name="both", unique=True)
    node.index("t", text=True)
    with pytest.raises(ExistsError, match="has an index of words, 'text'"):
        node.index("u", text=True, name="other")
    assert [one.definition.name for one in catalogue.list_indexes(node.connection)] == ["both", "text"]


def test_indexes_are_bounded() -> None:
    node = Node()
    for number in range(INDEXES_PER_COLLECTION_MAX):
        node.index(f"f{number}")
    with pytest.raises(TooLargeError, match="INDEXES_PER_COLLECTION_MAX = 16"):
        node.index("more")
    with node.store.group():
        for number in range(INDEXES_MAX - INDEXES_PER_COLLECTION_MAX):
            node.store.indexes.create(define(f"c{number}", ("a",)))
    with node.store.group(), pytest.raises(TooLargeError, match="INDEXES_MAX = 64"):
        node.store.indexes.create(define("other", ("a",)))


def test_a_dropped_index_leaves_nothing_and_no_query_misses_it() -> None:
    node = Node()
    before = node.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    node.put({"p": {"a": [1, 2], "b": {"c": "words"}}})
    for kind in KINDS:
        node.index(*kind["paths"], **{name: one for name, one in kind.items() if name != "paths"})
    for index in catalogue.list_indexes(node.connection):
        with node.store.group():
            assert not node.store.indexes.drop("c", index.definition.name)
    assert node.connection.execute("SELECT count(*) FROM sqlite_master").fetchone() <= (before[0] + 1,)
    assert node.found({"a": 2}) == ["p"]
    with node.store.group(), pytest.raises(NotFoundError, match="no index 'a'"):
        node.store.indexes.drop("c", "a")


def test_an_index_whose_making_was_undone_is_not_there() -> None:
    node = Node()
    node.put({"p": {"a": 1}})
    with contextlib.suppress(RuntimeError), node.store.group():
        node.store.indexes.create(define("c", ("a",), unique=True))
        raise RuntimeError
    node.put({"q": {"a": 1}})
    assert catalogue.list_indexes(node.connection) == []


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        ((), {}),
        (("a",) * 2, {}),
        (tuple("abcdefghi"), {}),
        (("a..b",), {}),
        (("a",), {"name": "x" * 129}),
        (("a",), {"name": "a\nb"}),
        (("a",), {"text": True, "unique": True}),
        (("-a",), {"text": True}),
        (("a",), {"where": {"b": {"$no": 1}}}),
        (("a",), {"where": {"b": "x" * 5000}}),
    ],
)
def test_what_cannot_be_an_index_is_refused(paths: tuple[str, ...], kind: dict[str, Any]) -> None:
    with pytest.raises(EntglError) as refused:
        define("c", paths, **kind)
    assert refused.value.code in (ErrorCode.INVALID, ErrorCode.UNSUPPORTED)


def test_a_partial_index_serves_those_who_say_its_condition() -> None:
    node = Node()
    node.put({f"k{n}": {"a": n % 3, "open": n % 2 == 0} for n in range(12)})
    node.index("a", where={"open": True}, name="open")
    assert [key for key, *_ in node.entries()] == [f"k{n}" for n in sorted(range(0, 12, 2), key=str)]
    asked: list[str] = []
    node.connection.set_trace_callback(asked.append)
    assert node.found({"a": 1, "open": True}) == ["k10", "k4"]
    assert any("FROM _entgldb_ix_1 s" in one for one in asked)
    asked.clear()
    assert node.found({"a": 1}) == ["k1", "k10", "k4", "k7"]
    assert not any("FROM _entgldb_ix_1 s" in one for one in asked)


class TestUnique:
    """One value, one document: as far as this node can tell."""

    @pytest.fixture
    def node(self) -> Node:
        node = Node()
        node.put({"u1": {"mail": "a"}, "u2": {"mail": "b"}})
        node.index("mail", unique=True)
        return node

    def test_a_local_write_that_repeats_a_value_is_refused_whole(self, node: Node) -> None:
        with pytest.raises(ExistsError) as refused:
            node.put({"u3": {"mail": "c"}, "u4": {"mail": "b"}})
        assert refused.value.text == 'c/u2 has mail = "b" already, and the index mail is unique'
        assert node.store.get("c", "u3") is None
        node.put({"u3": {"mail": "c"}})

    def test_documents_may_change_places_in_one_commit(self, node: Node) -> None:
        node.put({"u1": {"mail": "b"}, "u2": {"mail": "a"}})
        node.put({"u1": None, "u3": {"mail": "b"}})
        with pytest.raises(ExistsError):
            node.put({"u4": {"mail": "x"}, "u5": {"mail": "x"}})

    def test_requests_of_one_group_see_each_other(self, node: Node) -> None:
        with node.store.group():
            with node.store.savepoint(lazily=True):
                node.store.write(RequestId(b"r" * 16, 90), [Write("c", "u6", b'{"mail":"y"}')], NOW)
            with pytest.raises(ExistsError), node.store.savepoint(lazily=True):
                node.store.write(RequestId(b"r" * 16, 91), [Write("c", "u7", b'{"mail":"y"}')], NOW)
        assert node.store.get("c", "u6") is not None
        assert node.store.get("c", "u7") is None

    @pytest.mark.parametrize("mail", [None, {}, {"x": 1}, [], [None]])
    def test_what_is_no_value_may_stand_often(self, node: Node, mail: Any) -> None:
        node.put({"u3": {"mail": mail}})
        node.put({"u4": {"mail": mail}, "u5": {}})

    @pytest.mark.parametrize(("one", "other"), [(1, True), ("[1]", 1), (2**64, 2**64 + 1), ("1", 1)])
    def test_other_values_are_other_values(self, node: Node, one: Any, other: Any) -> None:
        node.put({"u3": {"mail": one}, "u4": {"mail": other}})
        with pytest.raises(ExistsError):
            node.put({"u5": {"mail": one}})

    def test_elements_of_arrays_are_values(self, node: Node) -> None:
        node.put({"u3": {"mail": ["c", "d"]}})
        with pytest.raises(ExistsError, match="c/u3 has"):
            node.put({"u4": {"mail": ["e", "d"]}})

    def test_what_comes_from_another_node_is_applied_and_listed(self, node: Node) -> None:
        other = Node()
        other.store = Store.memory("lan-2", b"o", NOW)
        other.put({"u9": {"mail": "b", "more": 1}})
        with node.store.group():
            node.store.apply(other.store.entries([(other.store.origin, 1)]), NOW)
        from entgldb.storage.indexes.listing import shared_values

        assert [tuple(one) for one in shared_values(node.connection, "c", "mail")] == [(["b"], ["u2", "u9"])]
        node.put({"u9": {"mail": "b", "more": 2}})
        with pytest.raises(ExistsError):
            node.put({"u1": {"mail": "b"}})
        node.put({"u9": {"mail": "z"}})
        assert shared_values(node.connection, "c", "mail") == []


class TestVerify:
    """What is wrong with an index is found, and made right by building it again."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        with closing(Store.open(tmp_path, "lan-1", NOW)) as store, store.group():
            writes = [Write("c", f"k{n}", json.dumps({"a": n, "t": f"word{n}"}).encode()) for n in range(5)]
            store.write(RequestId(b"r" * 16, 1), writes, NOW)
            store.indexes.create(define("c", ("a",)))
            store.indexes.create(define("c", ("t",), text=True))
        return tmp_path

    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            ("DELETE FROM _entgldb_ix_1 WHERE k = 'k3'", "document k3 does not stand in it as it is"),
            (
                "UPDATE _entgldb_ix_1 SET v0 = 9 WHERE k = 'k3'",
                "document k3 has an entry that it should not have",
            ),
            (
                "INSERT INTO _entgldb_ix_1 VALUES (77, 0, 'k', NULL, 1)",
                "it has an entry of number 77, which is",
            ),
            (
                "INSERT INTO _entgldb_text_2 (rowid, c0) VALUES (77, 'x')",
                "it has an entry of number 77, which is",
            ),
            ("DELETE FROM _entgldb_text_2_docsize WHERE id = 2", "document k1 does not stand in it"),
            (
                "INSERT INTO _entgldb_text_2 (_entgldb_text_2, rowid, c0) VALUES ('delete', 2, 'word1')",
                "document k1 does not stand in it",
            ),
        ],
    )
    def test_damage_is_found_and_named(self, file: Path, damage: str, told: str) -> None:
        with closing(sqlite3.connect(file / "entgldb.db")) as connection, connection:
            connection.execute(damage)
        with closing(Checkup.open(file)) as checkup:
            found = [one for one in checkup.run(still=True) if one.kind == "index"]
        assert any(told in one.text for one in found)
        assert all(one.hint.startswith("entgldb index rebuild c ") for one in found)
        with closing(Store.open(file, "lan-1", NOW)) as store:
            for name in ("a", "text"):
                with store.group():
                    store.indexes.rebuild("c", name)
            with store.group():
                store.indexes.tend()
            with store.group():
                assert not store.indexes.tend()
        with closing(Checkup.open(file)) as checkup:
            assert [one for one in checkup.run(still=True) if one.kind == "index"] == []

    def test_words_of_another_text_are_found_where_nobody_writes(self, file: Path) -> None:
        with closing(sqlite3.connect(file / "entgldb.db")) as connection, connection:
            register(connection)
            connection.execute("DROP TRIGGER _entgldb_text_2_set")
            connection.execute("UPDATE _entgldb_documents SET body = replace(body, 'word1', 'other')")
        with closing(Checkup.open(file)) as checkup:
            assert [one for one in checkup.run() if one.where == "c text"] == []
            assert {one.text for one in checkup.run(still=True) if one.where == "c text"} == {
                "the word 'word1' stands in other documents than it tells",
                "the word 'other' stands in other documents than it tells",
            }

    def test_a_file_with_indexes_is_read_by_plain_sqlite(self, file: Path) -> None:
        with closing(sqlite3.connect(f"file:{file / 'entgldb.db'}?mode=ro", uri=True)) as connection:
            assert connection.execute("SELECT key FROM c WHERE json_extract(body, '$.a') = 3").fetchall() == [
                ("k3",)
            ]
            assert connection.execute("SELECT k FROM _entgldb_ix_1 WHERE v0 = 4").fetchall() == [("k4",)]
            assert connection.execute("SELECT rowid FROM _entgldb_text_2('word2')").fetchall() == [(3,)]


def test_an_index_needs_a_collection_and_a_known_definition() -> None:
    with pytest.raises(InvalidError):
        define("_system_nodes", ("a",))
