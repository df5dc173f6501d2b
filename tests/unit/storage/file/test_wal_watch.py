"""A write-ahead log that a reader keeps from shrinking: the alarm names it, and ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file import wal_watch
from entgldb.storage.file.open import FILE
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
READER = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM _entgldb_documents").fetchone(), flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(tmp_path, "lan-1", NOW)
    yield made
    made.close()


@pytest.fixture
def reader(store: Store, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    put(store, 0)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / FILE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def put(store: Store, number: int) -> None:
    body = b'{"text":"%s"}' % (b"x" * 100_000)
    with store.group():
        store.write(RequestId(b"c" * 16, number), [Write("c", "k", body)], NOW)


def look(store: Store) -> None:
    with store.group():
        store.release_held(NOW)


def alarms(store: Store) -> list[str]:
    found = store.status()["alarms"]
    return [alarm["text"] for alarm in found if alarm["code"] == wal_watch.WAL_LARGE]


def test_who_keeps_the_log_from_shrinking_is_named_until_it_has_shrunk(
    store: Store, reader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_watch, "WAL_ALARM_BYTES", 17 * 1024 * 1024)
    look(store)
    assert alarms(store) == []
    for number in range(1, 181):
        put(store, number)
    store.checkpoint()
    look(store)
    (text,) = alarms(store)
    assert f"process {reader.pid} (" in text
    assert f"process {os.getpid()} (" not in text
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("\n")
    reader.stdin.flush()
    reader.stdout.readline()
    store.checkpoint()
    look(store)
    assert alarms(store) == []
    assert store.status()["wal_bytes"] < 17 * 1024 * 1024


def test_only_who_reads_is_named(store: Store, reader: subprocess.Popen[str], tmp_path: Path) -> None:
    shared = tmp_path / f"{FILE}-shm"
    assert wal_watch.readers_of(shared) - {os.getpid()} == {reader.pid}
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("\n")
    reader.stdin.flush()
    reader.stdout.readline()
    # it is connected still, and holds another lock
    assert reader.pid not in wal_watch.readers_of(shared)
    assert wal_watch.readers_of(tmp_path / "none") == frozenset()
