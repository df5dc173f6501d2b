"""Damage beside the log, and numbers far apart in it: a rebuild has what can be read, and comes to an end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery import rebuild as rebuilding
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def put(store: Store, number: int) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, number), [Write("users", f"k{number}", b"{}")], NOW)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with closing(Store.open(tmp_path, "a", NOW)) as store:
        for number in range(20):
            put(store, number)
        for number in range(300):
            with store.group():
                store.remember_peer(f"peer-{number}", "10.0.0.1:1" + "0" * 40, NOW)
    return tmp_path


def garble(home: Path, table: str) -> None:
    """The root of a table is no page of a table any more."""
    with closing(sqlite3.connect(home / FILE)) as connection:
        find = "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = ?"
        root, size = connection.execute(find, (table,)).fetchone()
    data = bytearray((home / FILE).read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    (home / FILE).write_bytes(data)


@pytest.mark.parametrize(
    "table", ["_entgldb_peers", "_entgldb_salvaged", "_entgldb_indexes", "_entgldb_origins"]
)
def test_a_table_that_cannot_be_read_costs_the_log_nothing(home: Path, table: str) -> None:
    garble(home, table)
    assert rebuild(home, "a", NOW + 10).salvaged == 20


@pytest.mark.parametrize(
    ("column", "value"), [("header", "text"), ("hlc", "text"), ("seq", b"x"), ("origin", 7), ("body", 1.5)]
)
def test_a_value_of_another_type_costs_its_own_row(home: Path, column: str, value: object) -> None:
    rebuild(home, "a", NOW + 10)
    with closing(sqlite3.connect(home / FILE)) as connection, connection:
        connection.execute(
            f"UPDATE _entgldb_salvaged SET {column} = ? WHERE seq = 3 AND hlc > 0",
            (value,),
        )
    assert rebuild(home, "a", NOW + 20).salvaged in (19, 20)
    Store.open(home, "a", NOW + 30).close()


def test_what_a_merge_has_numbered_far_ahead_is_not_searched_number_by_number(home: Path) -> None:
    with closing(Store.open(home, "a", NOW)) as store:
        for number in range(20, 25):
            with store.group():
                store.state.lsn += 2**32
                store.state.loose = True
            put(store, number)
    looks, look = [], rebuilding._range
    with patch.object(rebuilding, "_range", lambda *given: (looks.append(given), look(*given))[1]):
        assert rebuild(home, "a", NOW + 10).salvaged == 25
    assert len(looks) < 20
