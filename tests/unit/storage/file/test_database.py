"""Opening the file: settings that hold, formats that are refused, damage that is found."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.actors.session.own_log import tell_of_beginning
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError, CorruptError, EntglError, ErrorCode
from entgldb.storage.documents.query import Documents
from entgldb.storage.file import open as database
from entgldb.storage.file import schema
from entgldb.storage.file.open import FILE
from entgldb.storage.file.schema import STATISTICS, all_migrations, without_libraries
from entgldb.storage.log.read import LogReader
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext

NOW = 1_790_000_000_000


def fill(store: Store, documents: int = 2000) -> None:
    with store.group():
        writes = [Write("c", f"k{i}", b'{"text":"' + b"x" * 200 + b'"}') for i in range(documents)]
        store.write(RequestId(b"c" * 16, 1), writes, NOW)


def test_commits_are_durable_and_the_file_is_ours(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    wanted = {
        "synchronous": 2,
        "journal_mode": "wal",
        "user_version": schema.FORMAT,
        "application_id": schema.APPLICATION_ID,
    }
    found = {name: store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    assert found == wanted
    store.close()


def test_the_order_of_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]  # whatever connect was given
            self.set_trace_callback(statements.append)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, factory=Traced, **o))
    monkeypatch.setattr(os, "fsync", lambda handle: statements.append("fsync"))
    Store.open(tmp_path, "lan-1", NOW).close()
    order = [
        "PRAGMA synchronous = EXTRA",
        "PRAGMA journal_mode = WAL",
        "COMMIT",
        "fsync",
        "PRAGMA synchronous = FULL",
    ]
    places = [next(i for i, s in enumerate(statements) if s.startswith(wanted)) for wanted in order]
    assert places == sorted(places)


def test_every_migration_has_a_format_number() -> None:
    with without_libraries():
        from sqlite_utils import Database
    with closing(Database(memory=True)) as empty:
        assert len(all_migrations().pending(empty)) == schema.FORMAT


def test_a_new_file_loads_the_migrations_without_numpy_and_pandas(tmp_path: Path) -> None:
    assert loaded_by_opening(tmp_path, "sqlite_utils", "numpy", "pandas") == "['sqlite_utils']"


def test_a_program_that_uses_numpy_does_not_load_pandas_by_opening_a_new_file(tmp_path: Path) -> None:
    loaded = loaded_by_opening(tmp_path, "sqlite_utils", "numpy", "pandas", first="numpy")
    assert loaded == "['sqlite_utils', 'numpy']"


def test_opening_again_does_not_load_the_migrations(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    assert loaded_by_opening(tmp_path, "sqlite_utils", "asyncio", "thespian") == "[]"


def loaded_by_opening(directory: Path, *names: str, first: str = "sys") -> str:
    """Which of these modules a process has that opens a store in ``directory``.

    numpy and pandas can be had there; it imports ``first`` itself.
    """
    (directory / "more").mkdir()
    for name in ("numpy", "pandas"):
        (directory / "more" / f"{name}.py").write_text("")
    code = (
        f"import sys, {first}; from entgldb.storage.store import Store;"
        f" Store.open({str(directory)!r}, 'lan-1', {NOW}).close();"
        f" print([m for m in {names} if m in sys.modules])"
    )
    source = os.pathsep.join((str(Path(__file__).parents[4] / "src"), str(directory / "more")))
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    return found.stdout.strip()


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    directory = tmp_path / "100%? #1 %20"
    directory.mkdir()
    Store.open(directory, "lan-1", NOW).close()
    assert (directory / FILE).exists()
    Documents.open(directory).close()


def test_a_newer_format_is_refused_by_writer_and_readers(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    store.connection.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    store.close()
    for opener in (lambda: Store.open(tmp_path, "lan-1", NOW), lambda: Documents.open(tmp_path)):
        with pytest.raises(ConfigError, match=f"has format {schema.FORMAT + 1}, this release") as caught:
            opener()
        assert "newer release" in caught.value.hint


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("PRAGMA application_id = 7")
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(ConfigError, match="another program"):
        Store.open(tmp_path, "lan-1", NOW)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be read" * 100)
    with pytest.raises(CorruptError, match="not a database"):
        Store.open(tmp_path, "lan-1", NOW)


def spoil(path: Path) -> None:
    """Overwrite pages in the middle of the file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4 * 4096] = b"\xa5" * (4 * 4096)
    path.write_bytes(data)


def test_damage_is_found_after_an_unclean_stop(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    fill(store)
    store.connection.close()  # as a crash would: without the mark of a clean stop
    spoil(tmp_path / FILE)
    with pytest.raises(CorruptError, match="is damaged"):
        Store.open(tmp_path, "lan-1", NOW)


def test_a_clean_stop_needs_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    fill(store, 10)
    store.close()
    spoil_free = Store.open(tmp_path, "lan-1", NOW)
    marked = spoil_free.connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'running'")
    assert marked.fetchone() is not None
    spoil_free.close()
    reader = LogReader.open(tmp_path)
    rows = reader.connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'running'").fetchall()
    assert rows == []
    reader.close()


@pytest.mark.parametrize(("same_boot", "checked"), [(True, False), (False, True)])
def test_a_large_file_is_checked_only_after_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_boot: bool, checked: bool
) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    fill(store)
    store.connection.close()
    spoil(tmp_path / FILE)
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 1000)
    if not same_boot:
        monkeypatch.setattr(database, "_boot_id", lambda: "another boot")
    if checked:
        with pytest.raises(CorruptError, match="is damaged"):
            Store.open(tmp_path, "lan-1", NOW)
    else:
        Store.open(tmp_path, "lan-1", NOW).close()


def test_a_very_large_file_is_not_checked_at_a_start_which_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    fill(store)
    store.connection.close()
    spoil(tmp_path / FILE)
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 100)
    monkeypatch.setattr(database, "START_CHECK_BYTES_MAX", 1000)
    boot = database._boot_id()
    monkeypatch.setattr(database, "_boot_id", lambda: "another boot")
    store = Store.open(tmp_path, "lan-1", NOW)
    assert store.unchecked
    ctx = FakeContext()
    tell_of_beginning(store, ctx)
    assert "entgldb verify does it while the node runs" in ctx.lines[0]
    store.connection.close()
    # once this boot has opened it, a kill is all that can have happened
    with closing(Store.open(tmp_path, "lan-1", NOW)) as store:
        assert not store.unchecked
    monkeypatch.setattr(database, "_boot_id", lambda: boot)
    with closing(Store.open(tmp_path, "lan-1", NOW)) as store:
        assert not store.unchecked, "it was stopped in good order"


def test_a_full_disk_is_named_and_the_store_goes_on(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(EntglError, match="disk is full") as caught:
        fill(store)
    assert caught.value.code is ErrorCode.DISK_FULL
    assert (store.last_lsn(), store.vector(), store.status()["documents"]) == (0, {}, 0)
    store.connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    fill(store)
    assert store.status()["documents"] == 2000
    store.close()


def test_the_wal_is_kept_small(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", NOW)
    for number in range(3):
        with store.group():
            writes = [
                Write("c", f"k{i}", b'{"text":"%s"}' % (str(number) * 5000).encode()) for i in range(2000)
            ]
            store.write(RequestId(b"w" * 16, number), writes, NOW)
    assert store.status()["wal_bytes"] > 16 * 1024 * 1024
    store.checkpoint()
    assert store.status()["wal_bytes"] == 0
    store.close()


_WRITER = """
import sys
from entgldb.messages.client import RequestId, Write
from entgldb.storage.file.schema import without_libraries, all_migrations
from entgldb.storage.store import Store
store = Store.open(sys.argv[1], "lan-1", 1)
for number in range(1_000_000):
    with store.group():
        store.write(RequestId(b"c" * 16, number), [Write("c", f"k{number}", b"{}")], 1)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    source = Path(__file__).parents[4] / "src"
    last = -1
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER.replace("range(1", f"range({last + 1}, 1"), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert child.stdout is not None
        for line in child.stdout:
            last = int(line)
            if last % 97 == 96:
                break
        child.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
        child.wait()
        child.stdout.close()
        store = Store.open(tmp_path, "lan-1", NOW)
        for number in range(last + 1):
            assert store.answered(RequestId(b"c" * 16, number)) is not None
            assert store.get("c", f"k{number}") == b"{}"
        assert store.vector()[store.origin][0] in (last + 1, last + 2)
        last = store.vector()[store.origin][0] - 1
        store.close()


def test_what_is_deleted_is_not_written_over(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "n1", NOW)
    assert store.connection.execute("PRAGMA secure_delete").fetchone() == (0,)
    store.close()


def test_an_order_of_few_documents_is_read_without_walking_all_of_them(tmp_path: Path) -> None:
    """Counted in instructions of SQLite's machine: also after somebody has said ANALYZE."""
    store, counted = Store.open(tmp_path, "lan-1", NOW), []
    with store.group():
        store.indexes.create(define("c", ["n"]))
    for documents in (20, 2_000):
        with store.group():
            writes = [Write("c", f"k{n}", b'{"n":%d}' % n) for n in range(documents)]
            store.write(RequestId(b"c" * 16, documents), writes, NOW)
        while store.connection.execute("SELECT 1 FROM _entgldb_indexes WHERE reached IS NOT NULL").fetchone():
            with store.group():
                store.indexes.tend()
        store.connection.execute("ANALYZE")
        store.close()
        store = Store.open(tmp_path, "lan-1", NOW)
        assert store.connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall() == [STATISTICS]
        counted.append(0)
        with closing(Documents.open(tmp_path)) as documents_of:

            def count() -> None:
                counted[-1] += 1

            documents_of.finder._put_to(lambda reader: reader.set_progress_handler(count, 1))
            assert len(list(documents_of.find("c", sort="-n", limit=5))) == 5
    store.close()
    assert counted[1] < 1.5 * counted[0]
