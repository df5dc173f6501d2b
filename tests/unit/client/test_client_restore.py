"""A client that stays while the database of its node is restored: it reads the new file, not the old one."""

from __future__ import annotations

from pathlib import Path

import pytest

from entgldb.client.database import Database
from entgldb.client.feed import Following
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import TokenExpired
from entgldb.storage.recovery import backup, restore
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def put(directory: Path, number: int) -> None:
    store = Store.open(directory, "a", NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, number), [Write("users", f"k{number}", b"{}")], NOW)
    store.close()


def restored(tmp_path: Path) -> Database:
    """Connected to a node that had two documents, and whose backup has one."""
    home = tmp_path / "home"
    home.mkdir()
    put(home, 1)
    backup.write(home, tmp_path / "b.db", "1", NOW, lambda done, of: None)
    put(home, 2)
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
