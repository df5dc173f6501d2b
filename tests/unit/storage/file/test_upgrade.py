"""A file of an earlier format is opened, kept, changed in one step, and replicates on.

Only format 1 exists. So the release that opens it here has a format more (``support/next_format.py``).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError
from entgldb.messages.model import Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import FILE
from entgldb.storage.file.schema import DEVELOPMENT_ID, FORMAT
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.support import next_format

NOW = 1_790_000_100_000
BACKUP = f"{FILE}.format-{FORMAT}.bak"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A node's file of this format."""
    store = Store.open(tmp_path, "lan-1", NOW)
    with store.group():
        writes = [Write("users", f"u{number}", b'{"name":"before"}') for number in range(9)]
        store.write(RequestId(b"n" * 16, 1), [*writes, Write("users", "u8", None)], NOW)
        store.indexes.create(define("users", ("name",)))
    store.close()
    return tmp_path


@pytest.fixture
def later(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on it is the release after this one that runs."""
    next_format.install(monkeypatch.setattr)


def format_of(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


INDEXES = "SELECT collection, definition FROM _entgldb_indexes ORDER BY collection, definition"


def shown(directory: Path) -> dict[str, Any]:
    documents = Documents.open(directory)
    try:
        names = documents.collections(system=True)
        return {
            "documents": {name: dict(documents.find(name)) for name in names},
            "indexes": documents.put_to(
                lambda connection: [list(row) for row in connection.execute(INDEXES)]
            ),
        }
    finally:
        documents.close()


def test_a_file_of_an_earlier_format_shows_what_it_showed(
    directory: Path, request: pytest.FixtureRequest
) -> None:
    before = shown(directory)
    request.getfixturevalue("later")
    store = Store.open(directory, "lan-1", NOW)
    assert store.status()["documents"] == 8
    assert store.connection.execute(next_format.CHECK).fetchone() is not None
    store.close()
    assert shown(directory) == before


@pytest.mark.usefixtures("later")
def test_the_file_as_it_was_stays_beside_it(directory: Path) -> None:
    Store.open(directory, "lan-1", NOW).close()
    assert (format_of(directory / FILE), format_of(directory / BACKUP)) == (FORMAT + 1, FORMAT)
    assert stat.S_IMODE((directory / BACKUP).stat().st_mode) == 0o600
    with closing(sqlite3.connect(directory / BACKUP)) as kept:
        assert kept.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert kept.execute("SELECT documents FROM _entgldb_state").fetchone() == (8,)
    made = (directory / BACKUP).stat().st_mtime_ns
    Store.open(directory, "lan-1", NOW).close()
    assert (directory / BACKUP).stat().st_mtime_ns == made


@pytest.mark.usefixtures("later")
def test_a_new_file_has_nothing_to_keep(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    Store.open(tmp_path / "new", "lan-1", NOW).close()
    assert sorted(p.name for p in tmp_path.rglob("*.bak")) == []


@pytest.mark.usefixtures("later")
def test_it_goes_on_replicating(directory: Path) -> None:
    """Its old log is read by a new node, and what it writes now follows on."""
    store = Store.open(directory, "lan-1", NOW)
    with store.group():
        store.write(RequestId(b"n" * 16, 2), [Write("users", "u1", b'{"name":"after"}')], NOW)
    other = Store.memory("lan-3", b"o" * 32, NOW)
    with other.group():
        outcome = other.apply([Entry(row.header, row.body) for row in store.rows(1, 500)], NOW)
    assert outcome.refused == ""
    assert other.vector() == store.vector()
    assert other.documents("users") == store.documents("users")
    other.close()
    store.close()


KILLED = """
import os, signal, sys
from entgldb.storage.file import {module}
from entgldb.storage.store import Store
from tests.support import next_format
next_format.install(setattr)
after = {module}.{function}
def cut(*args):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)
{module}.{function} = cut
Store.open(sys.argv[1], "lan-1", 1790000100000)
"""


@pytest.mark.parametrize(
    ("module", "function", "before"),
    [
        ("upgrade", "_fill", "pass"),
        ("upgrade", "_fill", "after(*args)"),
        ("schema", "execute_all", "pass"),
        ("schema", "execute_all", "after(*args)"),
    ],
)
def test_a_start_that_is_killed_in_the_middle_leaves_a_usable_file(
    directory: Path, module: str, function: str, before: str, request: pytest.FixtureRequest
) -> None:
    script = KILLED.format(module=module, function=function, before=before)
    root = str(Path(__file__).parents[4])
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert format_of(directory / FILE) == FORMAT
    request.getfixturevalue("later")
    store = Store.open(directory, "lan-1", NOW)
    assert store.status()["documents"] == 8
    store.close()
    assert (format_of(directory / FILE), format_of(directory / BACKUP)) == (FORMAT + 1, FORMAT)


def test_a_newer_format_is_refused_and_left_alone(directory: Path) -> None:
    with closing(sqlite3.connect(directory / FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1}"):
        Store.open(directory, "lan-1", NOW)
    assert list(directory.glob("*.bak")) == []


@pytest.mark.parametrize(
    "change",
    [
        f"PRAGMA application_id = {DEVELOPMENT_ID}",
        "DROP VIEW _entgldb_heads",
        "DROP TABLE _entgldb_runs",
    ],
)
def test_a_file_from_before_the_first_release_is_refused(directory: Path, change: str) -> None:
    with closing(sqlite3.connect(directory / FILE)) as connection:
        connection.execute(change)
    for opener in (lambda: Store.open(directory, "lan-1", NOW), lambda: Documents.open(directory)):
        with pytest.raises(ConfigError, match="before the first release") as caught:
            opener()
        assert "begin with an empty directory" in caught.value.hint
    assert list(directory.glob("*.bak")) == []
