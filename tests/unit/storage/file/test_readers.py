"""Readers that come while one makes a node's file, or puts another in its place: each reads, or is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from entgldb.client.upkeep import forks
from entgldb.launch.doctor import machine
from entgldb.launch.doctor.outside import Place
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import CorruptError, NotFoundError
from entgldb.storage.audit.reading import chained
from entgldb.storage.authorship.identity import owner_of
from entgldb.storage.documents.query import Documents
from entgldb.storage.documents.tracing import Tracer
from entgldb.storage.file import open as database
from entgldb.storage.file.open import FILE, open_file, open_reader
from entgldb.storage.recovery import backup, rebuild
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.recovery.restore import restore
from entgldb.storage.store import Store
from tests.unit.storage.snapshot.snapshots import in_steps, send

NOW: Final = 1_790_000_000_000
Look = Callable[[], None]


def _documents(directory: Path) -> None:
    with closing(Documents.open(directory)) as found:
        list(found.find("c"))
        list(found.changes())
        found.token(), found.origin(), found.collections(), found.conflicts(), found.history("c", "k")


def _log(directory: Path) -> None:
    with closing(Tracer.open(directory)) as log:
        log.origin, log.file_id, log.vector(), log.held(), log.trace("c", "k")


def _check(directory: Path) -> None:
    with closing(Checkup.open(directory)) as checkup:
        assert checkup.run(deep=True) == []


def _backup(directory: Path) -> None:
    backup.write(directory, directory.parent / "b", "1", NOW, lambda done, total: None)


def _records(directory: Path) -> None:
    with closing(open_reader(directory)) as connection:
        list(chained(connection))
        forks.listed(connection)


def _doctor(directory: Path) -> None:
    assert machine.db(Place(directory)).findings == []


READERS: Final[tuple[Callable[[Path], Any], ...]] = (_documents, _log, _check, _backup, _records)
TELLING: Final[tuple[Callable[[Path], Any], ...]] = (_doctor, owner_of)
"""For these no file is an answer."""


@contextmanager
def reading_between(steps: pytest.MonkeyPatch, directory: Path) -> Iterator[dict[str, set[str]]]:
    """Have all readers come before each kind of statement that a writer gives SQLite, and after each move of
    a file. Name of the reader -> its answers."""
    told: dict[str, set[str]] = {reader.__name__: set() for reader in READERS}
    seen: set[str] = set()
    at_it = [False]

    def look(step: object) -> None:
        # statements with their values: those of one kind begin alike
        kind = str(step)[:30]
        if not at_it[0] and kind not in seen:
            at_it[0] = True
            seen.add(kind)
            for reader in READERS:
                told[reader.__name__].add(_answer(reader, directory))
            for reader in TELLING:
                reader(directory)
            at_it[0] = False

    connect = database._connect

    def connected(path: Path, mode: str, **how: Any) -> Any:
        connection = connect(path, mode, **how)
        if mode != "ro" and path.parent == directory:
            look(connection)
            connection.set_trace_callback(look)
        return connection

    def after(step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*given: Any, **how: Any) -> Any:
            done = step(*given, **how)
            look(given[0].name)
            return done

        return taken

    with steps.context() as patched:
        patched.setattr(database, "_connect", connected)
        patched.setattr(Path, "replace", after(Path.replace))
        yield told


def _answer(reader: Callable[[Path], Any], directory: Path) -> str:
    try:
        reader(directory)
    except NotFoundError as fault:
        return fault.text
    return "read"


def test_a_reader_of_a_file_in_the_making_is_told_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "n"
    directory.mkdir()
    with reading_between(monkeypatch, directory) as told:
        Store.open(directory, "lan-1", NOW).close()
    assert set(map(frozenset, told.values())) == {
        frozenset({"read", f"{directory / FILE} is not made to its end"}),
    }


@pytest.mark.parametrize("verb", ["restore", "rebuild"])
def test_a_reader_while_another_database_is_put_in_its_place_reads_or_is_told_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    directory = tmp_path / "n"
    directory.mkdir()
    store = Store.open(directory, "lan-1", NOW)
    for number in range(3):
        with store.group():
            store.write(RequestId(b"c" * 16, number), [Write("c", f"k{number}", b'{"n":1}')], NOW)
    kept = tmp_path / "kept"
    backup.write(directory, kept, "1", NOW, lambda done, total: None)
    store.close()
    with reading_between(monkeypatch, directory) as told:
        if verb == "restore":
            restore(kept, directory, "lan-1", NOW)
        else:
            rebuild.rebuild(directory, "lan-1", NOW)
        Store.open(directory, "lan-1", NOW).close()
    assert set(map(frozenset, told.values())) == {
        frozenset({"read", f"there is no {FILE} in {directory}"}),
    }


def test_a_file_whose_making_was_cut_short_is_none_until_it_is_made_to_its_end(tmp_path: Path) -> None:
    open_file(tmp_path).close()
    with pytest.raises(NotFoundError, match="is not made to its end"):
        open_reader(tmp_path)
    Store.open(tmp_path, "lan-1", NOW).close()
    open_reader(tmp_path).close()


def test_a_file_that_has_lost_half_of_its_identity_is_damaged(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    with closing(open_file(tmp_path)) as connection:
        connection.execute("DELETE FROM _entgldb_meta WHERE name = 'file_id'")
    with pytest.raises(CorruptError, match="does not say whose it is"):
        open_reader(tmp_path)


def test_a_reader_while_a_snapshot_is_merged_finds_a_sound_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_steps(monkeypatch)
    directory = tmp_path / "n"
    directory.mkdir()
    giver = Store.memory("giver", b"g" * 32, NOW)
    for number in range(4):
        with giver.group():
            giver.write(RequestId(b"g" * 16, number), [Write("c", f"k{number}", b'{"n":2}')], NOW)
    Store.open(directory, "lan-1", NOW).close()
    with reading_between(monkeypatch, directory) as told:
        store = Store.open(directory, "lan-1", NOW)
        send(giver, store, NOW)
        store.close()
    assert set(map(frozenset, told.values())) == {frozenset({"read"})}
    with closing(Documents.open(directory)) as found:
        assert [key for key, _ in found.find("c")] == [f"k{number}" for number in range(4)]
