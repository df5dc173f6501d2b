"""Snapshots as files of a directory: no clock of the disk tells how old one is."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from entgldb.actors.oplog import snapshot_files
from entgldb.actors.oplog.snapshot_files import SNAPSHOT_FOLDER, FileShelf
from entgldb.messages.local.snapshots import SnapshotWritten
from entgldb.messages.schema import Message
from entgldb.storage.snapshot.freeze import read_chunk
from entgldb.storage.store import Store
from tests.unit.storage.snapshot.snapshots import frozen


def shelf(directory: Path) -> FileShelf:
    """The shelf as a start of oplog has it."""
    told: list[Message] = []
    return FileShelf(told.append, directory)


def half_staged(directory: Path) -> None:
    """One chunk of a snapshot has come in; the process ends without a word."""
    found = read_chunk(frozen(Store.memory("n", b"n", 0))[1], 0)
    assert found is not None
    staging = shelf(directory).stage("s")
    staging.add_chunk(0, *found)
    staging.close()


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / SNAPSHOT_FOLDER).iterdir())


@pytest.mark.parametrize("seconds", [0, 2**32], ids=["1970", "2106"])
def test_a_disk_whose_clock_was_wrong_takes_no_staged_snapshot_away(seconds: int, tmp_path: Path) -> None:
    half_staged(tmp_path)
    for path in (tmp_path / SNAPSHOT_FOLDER).iterdir():
        os.utime(path, (seconds, seconds))
    again = shelf(tmp_path)
    staging = again.stage("s")
    assert staging.next == 1
    staging.close()
    again.unstage()
    assert left(tmp_path) == []


def test_at_a_start_goes_what_was_given_away_and_for_another_snapshot_what_was_staged(tmp_path: Path) -> None:
    half_staged(tmp_path)
    folder = tmp_path / SNAPSHOT_FOLDER
    # a removal that was cut short leaves the log of a file that is gone
    for name in ("abc.db", "part-1-2.db", "part-1-2.db-journal", "staging-old.db-wal"):
        (folder / name).touch()
    shelf(tmp_path)
    assert {name.split(".")[0] for name in left(tmp_path)} == {"staging-old", "staging-s"}
    shelf(tmp_path).stage("t").close()
    assert {name.split(".")[0] for name in left(tmp_path)} == {"staging-t"}


def test_memory_that_a_snapshot_has_needed_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(snapshot_files, "give_back", lambda: given.append("back"))
    half_staged(tmp_path)
    assert given == ["back"]
    store = Store.open(tmp_path, "n", 0)
    told: queue.Queue[Message] = queue.Queue()
    FileShelf(told.put, tmp_path).freeze()
    frozen_one = told.get(timeout=60)
    store.close()
    assert isinstance(frozen_one, SnapshotWritten)
    assert not frozen_one.fault
    assert given == ["back"] * 2
