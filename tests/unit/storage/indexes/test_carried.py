"""Indexes over the ways by which documents come into a file, and files come into being."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import FILE, register
from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.checking import faults
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.repair.copies import read_copy
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.unit.storage.snapshot.snapshots import send

NOW = 1_790_000_000_000
KINDS: tuple[dict[str, Any], ...] = (
    {"paths": ("n",)},
    {"paths": ("tags", "-n")},
    {"paths": ("n",), "unique": True, "name": "unique"},
    {"paths": ("n",), "where": {"n": {"$lt": 50}}, "name": "partial"},
    {"paths": ("word", "tags"), "text": True},
)


def fill(store: Store, numbers: range, **more: Any) -> None:
    bodies = {f"k{n}": {"n": n, "tags": [f"t{n % 3}", "all"], "word": f"word{n}", **more} for n in numbers}
    with store.group():
        writes = [Write("c", key, json.dumps(body).encode()) for key, body in bodies.items()]
        store.write(RequestId(b"c" * 16, store.last_lsn()), writes, NOW)


def index(store: Store) -> None:
    for kind in KINDS:
        with store.group():
            store.indexes.create(define("c", **kind))


def build(store: Store) -> None:
    more = True
    while more:
        with store.group():
            more = store.indexes.tend()


def wrong(store: Store) -> list[str]:
    known = catalogue.list_indexes(store.connection)
    assert [one.reached for one in known] == [None] * len(KINDS)
    return [text for one in known for text in faults(store.connection, one, lambda _: None, still=True)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(tmp_path, "a", NOW)
    fill(made, range(60))
    index(made)
    yield made
    # a test that goes on with the file has closed it
    with contextlib.suppress(sqlite3.ProgrammingError):
        made.close()


def test_entries_of_another_node(store: Store) -> None:
    other = Store.memory("b", b"b", NOW)
    fill(other, range(40, 80), by="b")
    with store.group():
        store.apply([Entry(row.header, row.body) for row in other.rows(1, 500)], NOW + 5)
    assert wrong(store) == []


def test_a_snapshot_that_is_merged(store: Store) -> None:
    other = Store.memory("b", b"b", NOW)
    with other.group():
        other.apply([Entry(row.header, row.body) for row in store.rows(1, 500)], NOW + 5)
    fill(other, range(40, 90), by="b")
    with other.group():
        other.write(RequestId(b"d" * 16, 1), [Write("c", f"k{n}", None) for n in range(10)], NOW + 9)
    installed = send(other, store, NOW + 10)
    assert (installed.refused, installed.deleted) == ("", 0)
    assert store.get("c", "k5") is None
    assert wrong(store) == []


def test_a_backup_and_what_is_restored_from_it(store: Store, tmp_path: Path) -> None:
    made = backup.write(tmp_path, tmp_path / "b.db", "0", NOW, lambda done, of: None)
    assert made.documents == 60
    store.close()
    restore.restore(tmp_path / "b.db", tmp_path, "a", NOW + 10, authoritative=True)
    with closing(Store.open(tmp_path, "a", NOW + 20)) as restored:
        assert wrong(restored) == []
        fill(restored, range(60, 70))
        assert wrong(restored) == []
    with closing(Documents.open(tmp_path)) as documents:
        assert documents.explain("c", {"tags": "t1"}).indexes == ("tags,-n",)
        assert [key for key, _ in documents.find("c", {"$text": "word7"})] == ["k7"]


def test_a_backup_with_a_wrong_index_is_refused(store: Store, tmp_path: Path) -> None:
    store.connection.execute("DELETE FROM _entgldb_ix_1 WHERE k = 'k7'")
    with pytest.raises(Exception, match="c n: document k7 does not stand in it"):
        backup.write(tmp_path, tmp_path / "b.db", "0", NOW, lambda done, of: None)


def test_a_database_that_is_begun_anew_has_the_definitions(store: Store, tmp_path: Path) -> None:
    with store.group():
        store.indexes.create(define("c", ("all",)), everywhere=True)
    store.close()
    rebuild(tmp_path, "a", NOW + 10)
    with closing(Store.open(tmp_path, "a", NOW + 20)) as anew:
        assert anew.status()["documents"] == 0
        assert [one.definition.name for one in catalogue.list_indexes(anew.connection)] == [
            "n",
            "partial",
            "tags,-n",
            "text",
            "unique",
        ]
        with anew.group():
            assert anew.reissue_salvaged(NOW + 30) == 60
        assert wrong(anew) == []


@pytest.mark.parametrize("damage", ["replace(body, 'word7', 'ward7')", "substr(body, 2)"])
def test_a_damaged_row_that_is_repaired(store: Store, tmp_path: Path, damage: str) -> None:
    other = Store.memory("b", b"b", NOW)
    with other.group():
        other.apply([Entry(row.header, row.body) for row in store.rows(1, 500)], NOW + 5)
    copy = read_copy(other.connection, "c", "k7")
    assert copy is not None
    # behind the back of the triggers, as a disk does it
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        register(connection)
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(f"UPDATE _entgldb_documents SET body = {damage} WHERE key = 'k7'")
        for _, sql in triggers:
            connection.execute(sql)
    with store.group():
        assert store.repair([copy], [], other.vector(), write=True) == ["take"]
    build(store)
    assert store.get("c", "k7") == copy.body
    assert wrong(store) == []


def test_a_row_that_is_no_json_stops_no_building(store: Store, tmp_path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE _entgldb_documents SET body = 'no json' WHERE key = 'k7'")
    with closing(Store.open(tmp_path, "a", NOW)) as opened:
        for one in catalogue.list_indexes(opened.connection):
            with opened.group():
                opened.indexes.rebuild(*one.definition.place)
        build(opened)
        assert wrong(opened) == []
    with closing(Checkup.open(tmp_path)) as checkup:
        assert {one.kind for one in checkup.run(still=True)} == {"document"}
