"""A file of an earlier format is opened, kept, changed in one step, and replicates on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError
from entgldb.messages.model import Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import FILE
from entgldb.storage.file.schema import FORMAT
from entgldb.storage.store import Store

CORPUS = Path(__file__).parents[3] / "corpus" / "format-1"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())
NOW = 1_790_000_100_000
BACKUP = f"{FILE}.format-1.bak"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(CORPUS / FILE, tmp_path / FILE)
    return tmp_path


def format_of(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def shown(directory: Path) -> dict[str, Any]:
    documents = Documents.open(directory)
    try:
        names = documents.collections(system=True)
        return {
            "documents": {name: dict(documents.find(name)) for name in names},
            "conflicts": [[c.collection, c.key, list(c.version), c.document] for c in documents.conflicts()],
            "indexes": [list(index) for index in documents.indexes()],
        }
    finally:
        documents.close()


def test_a_file_of_format_1_shows_what_it_showed(directory: Path) -> None:
    store = Store.open(directory, "lan-1", NOW)
    assert {o: [seq, head.hex()] for o, (seq, head) in store.vector().items()} == EXPECTED["vector"]
    assert (store.origin, store.file_id) == (EXPECTED["origin"], EXPECTED["file_id"])
    assert (store.held(), store.remembered_peers()) == (EXPECTED["held"], EXPECTED["peers"])
    assert {name: store.status()[name] for name in EXPECTED["status"]} == EXPECTED["status"]
    digests = store.connection.execute(
        "SELECT CAST(body AS BLOB), sha256 FROM _entgldb_documents WHERE body IS NOT NULL"
    )
    assert all(sha256(body).digest() == digest for body, digest in digests)
    store.close()
    assert shown(directory) == {name: EXPECTED[name] for name in ("documents", "conflicts", "indexes")}


def test_the_file_as_it_was_stays_beside_it(directory: Path) -> None:
    Store.open(directory, "lan-1", NOW).close()
    assert (format_of(directory / FILE), format_of(directory / BACKUP)) == (FORMAT, 1)
    assert stat.S_IMODE((directory / BACKUP).stat().st_mode) == 0o600
    kept = sqlite3.connect(directory / BACKUP)
    assert kept.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert kept.execute("SELECT documents FROM _entgldb_state").fetchone() == (24,)
    kept.close()
    made = (directory / BACKUP).stat().st_mtime_ns
    Store.open(directory, "lan-1", NOW).close()
    assert (directory / BACKUP).stat().st_mtime_ns == made


def test_a_new_file_has_nothing_to_keep(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    assert sorted(p.name for p in tmp_path.glob("*.bak")) == []


def test_it_goes_on_replicating_with_a_file_that_was_never_upgraded(directory: Path, tmp_path: Path) -> None:
    """Its old log is read by a new node, and what it writes now follows on."""
    store = Store.open(directory, "lan-1", NOW)
    with store.group():
        store.write(RequestId(b"n" * 16, 1), [Write("users", "u1", b'{"name":"after"}')], NOW)
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
        ("schema", "_execute_all", "pass"),
        ("schema", "_execute_all", "after(*args)"),
    ],
)
def test_a_start_that_is_killed_in_the_middle_leaves_a_usable_file(
    directory: Path, module: str, function: str, before: str
) -> None:
    script = KILLED.format(module=module, function=function, before=before)
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)], env={**os.environ}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert format_of(directory / FILE) == 1
    store = Store.open(directory, "lan-1", NOW)
    assert store.status()["documents"] == EXPECTED["status"]["documents"]
    store.close()
    assert (format_of(directory / FILE), format_of(directory / BACKUP)) == (FORMAT, 1)


def test_a_newer_format_is_refused_and_left_alone(directory: Path) -> None:
    connection = sqlite3.connect(directory / FILE)
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1}"):
        Store.open(directory, "lan-1", NOW)
    assert list(directory.glob("*.bak")) == []


def test_a_file_of_a_release_that_never_was_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path, "lan-1", NOW).close()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("DROP VIEW _entgldb_heads")
    connection.close()
    with pytest.raises(ConfigError, match="before its release"):
        Store.open(tmp_path, "lan-1", NOW)
    with pytest.raises(ConfigError, match="before its release"):
        Documents.open(tmp_path)
