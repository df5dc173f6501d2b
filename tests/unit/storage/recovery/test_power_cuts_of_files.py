"""A power cut while files are moved: the same promises as after kill -9, on a disk with a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from entgldb.storage.file import durable, swap
from entgldb.storage.file.open import FILE, open_reader
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery import rebuild as salvage
from entgldb.storage.store import Store
from tests.kills.verbs import NEW, NODE, NOW, OLD, put, shown, started
from tests.unit.storage.file.power_cut import RecordedDisk, stay_one_machine

MOMENTS: Final = 15


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_one_machine(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "home").mkdir()
    recorded = RecordedDisk(tmp_path / "home")
    with recorded.recording():
        yield recorded


def lived(disk: RecordedDisk, file: Path) -> None:
    """A node whose last acknowledged writes are in the WAL alone, and an older backup."""
    store = Store.open(disk.directory, NODE, NOW)
    put(store, *range(OLD))
    backup.write(disk.directory, file, "1", NOW, lambda done, of: None)
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    put(store, *range(OLD, NEW))
    with closing(open_reader(disk.directory)):
        store.connection.close()


def cut(disk: RecordedDisk, begun: int, target: Path, seed: int) -> Iterator[tuple[int, Path]]:
    """The directory after cuts at moments from ``begun`` on, as the node's home of a folder."""
    random = Random(seed)
    for number in range(MOMENTS):
        moment = random.randint(begun, disk.moment)
        root = target / f"cut-{number}"
        (root / "home").mkdir(parents=True)
        disk.cut(moment, random, root / "home")
        yield moment, root


def set_aside(root: Path) -> list[int]:
    found = [path for path in (root / "home").glob(f"{FILE}.*-*") if path.name[-1].isdigit()]
    return [shown(path) for path in found]


def kept(root: Path) -> bool:
    """Whether all that was acknowledged is shown, waits to be written again, or is in a file set aside."""
    documents, salvaged = started(root)
    return documents + salvaged == NEW or (documents == OLD and NEW in set_aside(root))


def restoring(home: Path, file: Path) -> Any:
    return restore.restore(file, home, NODE, NOW + 50)


def rebuilding(home: Path, file: Path) -> Any:
    return salvage.rebuild(home, NODE, NOW + 50)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("verb", [restoring, rebuilding])
def test_a_database_that_takes_the_place_of_another_loses_nothing(
    verb: Callable[[Path, Path], Any], seed: int, disk: RecordedDisk, tmp_path: Path
) -> None:
    lived(disk, tmp_path / "b.db")
    begun = disk.moment
    verb(disk.directory, tmp_path / "b.db")
    for moment, root in cut(disk, begun, tmp_path, seed):
        assert kept(root), f"cut at {moment}"
    for moment, root in cut(disk, begun, tmp_path / "again", seed):
        verb(root / "home", tmp_path / "b.db")
        assert kept(root), f"cut at {moment}, and run again"


def test_a_swap_that_does_not_sync_between_its_steps_is_found_out(
    disk: RecordedDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(disk, tmp_path / "b.db")
    begun = disk.moment
    with monkeypatch.context() as careless:
        for module in (durable, swap):
            careless.setattr(module, "sync", lambda path: None)
        restoring(disk.directory, tmp_path / "b.db")

    def fails(root: Path) -> bool:
        try:
            return not kept(root)
        except Exception:  # noqa: BLE001 -- a file that cannot be opened has lost everything
            return True

    assert any(fails(root) for seed in range(3) for _, root in cut(disk, begun, tmp_path / str(seed), seed))


@pytest.mark.parametrize("seed", range(3))
def test_a_backup_that_takes_the_place_of_another_is_one_of_the_two(
    seed: int, disk: RecordedDisk, tmp_path: Path
) -> None:
    lived(disk, disk.directory / "b.db")
    begun = disk.moment
    backup.write(disk.directory, disk.directory / "b.db", "1", NOW, lambda done, of: None)
    for moment, root in cut(disk, begun, tmp_path, seed):
        found = backup.verify(root / "home" / "b.db").documents
        assert found in (OLD, NEW), f"cut at {moment}"
