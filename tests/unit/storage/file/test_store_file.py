"""The store on a real file: every acknowledged write is there after closing, opening and reading."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError, NotFoundError
from entgldb.storage.file.open import FILE
from entgldb.storage.log.read import LogReader
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
CLIENT = b"c" * 16


def put(store: Store, counter: int, *writes: Write) -> None:
    with store.group():
        store.write(RequestId(CLIENT, counter), writes, NOW)


def test_reopening_finds_documents_vector_and_clock(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    put(store, 1, Write("users", "u1", b'{"a":1}'), Write("users", "u2", b'{"a":2}'))
    vector, origin, clock = store.vector(), store.origin, store.state.clock
    store.close()

    again = Store.open(tmp_path, "lan-1", NOW - 3_600_000)
    assert again.origin == origin
    assert again.vector() == vector == {origin: (2, vector[origin][1])}
    assert again.state.clock == clock
    assert again.documents("users") == [("u1", b'{"a":1}'), ("u2", b'{"a":2}')]
    assert again.status()["documents"] == 2
    put(again, 2, Write("users", "u1", b'{"a":3}'))
    assert again.state.clock > clock
    again.close()


def test_a_file_of_another_node_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    with pytest.raises(ConfigError, match="belongs to node lan-1, not lan-2"):
        Store.open(tmp_path, "lan-2", NOW)


def test_the_file_is_private(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_the_reader_sees_commits_of_a_running_store(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no"):
        LogReader.open(tmp_path)
    store = Store.open(tmp_path, "lan-1", NOW)
    reader = LogReader.open(tmp_path)
    assert reader.vector() == {}
    assert reader.first_missing({}) == 1
    put(store, 1, Write("users", "u1", b'{"a":1}'))
    put(store, 2, Write("users", "u1", None))
    assert reader.origin == store.origin
    assert reader.vector() == store.vector()
    assert reader.last_lsn() == 2
    rows = reader.rows(1, 10)
    assert [(row.lsn, row.seq, row.body, row.applied) for row in rows] == [
        (1, 1, b'{"a":1}', True),
        (2, 2, None, True),
    ]
    assert rows == store.rows(1, 10)
    assert [entry.header for entry in reader.entries([(store.origin, 2)])] == [rows[1].header]
    assert reader.first_missing({store.origin: 1}) == 2
    assert reader.first_missing({store.origin: 2}) == 3
    reader.close()
    store.close()


def test_peers_are_remembered(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "a", NOW)
    store.remember_peer("b", "127.0.0.1:1", NOW)
    store.remember_peer("c", "127.0.0.1:2", NOW + 1)
    store.remember_peer("b", "127.0.0.1:3", NOW + 2)
    assert store.remembered_peers() == {"b": "127.0.0.1:3", "c": "127.0.0.1:2"}
    store.close()
    again = Store.open(tmp_path, "a", NOW)
    assert again.remembered_peers() == {"b": "127.0.0.1:3", "c": "127.0.0.1:2"}
    again.close()


def test_a_reader_of_the_log_keeps_a_mebibyte_of_pages(tmp_path: Path) -> None:
    Store.open(tmp_path, "n1", NOW).close()
    reader = LogReader.open(tmp_path)
    assert reader.connection.execute("PRAGMA cache_size").fetchone() == (-1024,)
    reader.close()


def test_an_orderly_close_leaves_an_empty_wal_although_readers_are_open(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "n1", NOW)
    put(store, 1, Write("users", "a", b"{}"))
    reader = LogReader.open(tmp_path)
    assert reader.last_lsn() == 1
    store.close()
    assert (tmp_path / "entgldb.db-wal").stat().st_size == 0
    reader.close()


@pytest.mark.parametrize("fails", ["group", "_truncate"])
def test_a_close_that_the_disk_refuses_leaves_no_connection(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path, "a", NOW)

    def refused(self: Store) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(Store, fails, refused)
        with pytest.raises(sqlite3.OperationalError):
            store.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.connection.execute("SELECT 1")
    Store.open(tmp_path, "a", NOW).close()
