"""A client that stays while the database of its node is restored: it reads the new file, not the old one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from entgldb.client.database import Database
from entgldb.client.feed import Following
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import TokenExpired
from entgldb.storage.documents import finding, query
from entgldb.storage.file import compacting
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def put(directory: Path, *keys: str) -> None:
    store = Store.open(directory, "a", NOW)
    with store.group():
        writes = [Write("users", key, b'{"n":1}') for key in keys]
        store.write(RequestId(b"c" * 16, 1 + store.last_lsn()), writes, NOW)
    store.close()


def restored(tmp_path: Path) -> Database:
    """Connected to a node that had two documents, and whose backup has one."""
    home = tmp_path / "home"
    home.mkdir()
    put(home, "k1")
    backup.write(home, tmp_path / "b.db", "1", NOW, lambda done, of: None)
    put(home, "k2")
    return Database(home)


def test_reads_are_of_the_file_that_is_there(tmp_path: Path) -> None:
    with restored(tmp_path) as db:
        assert db["users"].count() == 2
        restore.restore(tmp_path / "b.db", db.directory, "a", NOW)
        assert db["users"].count() == 1


def test_a_feed_that_waits_is_told_that_its_token_has_expired(tmp_path: Path) -> None:
    with restored(tmp_path) as db:
        feed = db["users"].changes(follow=True)
        assert isinstance(feed, Following)
        assert [next(feed).key, next(feed).key] == ["k1", "k2"]
        restore.restore(tmp_path / "b.db", db.directory, "a", NOW)
        with pytest.raises(TokenExpired, match="another database file"):
            next(feed)


OLD = [f"k{number:02d}" for number in range(20)]


def replace(way: str, directory: Path, saved: Path) -> list[str]:
    """Give a node that is down another file, or the same one written anew; the keys that are there then."""
    match way:
        case "restore":
            restore.restore(saved, directory, "a", NOW + 100)
            return ["k00"]
        case "rebuild":
            rebuild(directory, "a", NOW + 100)
            return []
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        compacting.step(connection)
    return OLD


def backed_up(home: Path, target: Path) -> None:
    """A file whose backup has the first of its documents alone."""
    home.mkdir()
    put(home, *OLD[:1])
    backup.write(home, target, "1", NOW, lambda done, of: None)
    put(home, *OLD[1:])


@pytest.mark.parametrize("way", ["restore", "rebuild", "compact"])
@pytest.mark.parametrize("begun", [True, False], ids=["in its midst", "before its first page"])
def test_a_search_reads_the_file_in_which_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, *, begun: bool
) -> None:
    """It has a connection of its own, made with the first search; the next one reads the new file."""
    monkeypatch.setattr(finding, "PAGE_ROWS_MAX", 3)
    home = tmp_path / "home"
    backed_up(home, tmp_path / "b.db")
    with Database(home) as db:
        documents = db.documents
        assert documents.get("users", OLD[0]) == {"n": 1}
        told, found = list[str](), iter(documents.find("users", {"n": {"$gte": 1}}) if begun else ())
        told += [key for key, _ in islice(found, 4)]
        there = replace(way, home, tmp_path / "b.db")
        told += [key for key, _ in (found if begun else documents.find("users", {"n": {"$gte": 1}}))]
        assert told == OLD
        assert [key for key, _ in db.documents.find("users", {"n": {"$gte": 1}})] == there
        assert (db["users"].get(OLD[1]) is not None) == (OLD[1] in there)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_comes_while_a_search_opens_the_old_one_is_not_mixed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    home, opened = tmp_path / "home", query.open_reader
    backed_up(home, tmp_path / "b.db")
    with Database(home) as db:
        documents = db.documents

        def meanwhile(directory: str | Path) -> sqlite3.Connection:
            made = None if when == "before" else opened(directory)
            restore.restore(tmp_path / "b.db", home, "a", NOW + 100)
            return made or opened(directory)

        monkeypatch.setattr(query, "open_reader", meanwhile)
        assert [key for key, _ in documents.find("users")] == OLD
        monkeypatch.undo()
        assert [key for key, _ in db.documents.find("users")] == OLD[:1]
