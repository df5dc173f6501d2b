"""Damage beside the log, and numbers far apart in it: a rebuild has what can be read, and comes to an end."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.storage.authorship.authors import authorities
from entgldb.storage.authorship.keys import Signer, public_of
from entgldb.storage.file import swap
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery import rebuild as rebuilding
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.rules.authorship import cluster_of, successor_statement
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


def garble_leaf(home: Path, digest: bytes) -> None:
    """The page of the log with the entry of this hash is none any more."""
    with closing(sqlite3.connect(home / FILE)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray((home / FILE).read_bytes())
    places = [at for at in range(0, len(data), size) if data[at] == 0x0D and digest in data[at : at + size]]
    (at,) = places
    data[at : at + size] = b"\xff" * size
    (home / FILE).write_bytes(data)


def readable(home: Path, numbers: list[int]) -> int:
    """How many rows of the log can be read by their numbers."""
    found = 0
    with closing(sqlite3.connect(home / FILE)) as connection:
        for number in numbers:
            with suppress(sqlite3.Error):
                found += len(
                    connection.execute("SELECT * FROM _entgldb_oplog WHERE lsn = ?", (number,)).fetchall()
                )
    return found


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


@pytest.mark.parametrize("garbled", ["k22", "k0"])
def test_a_damaged_page_with_numbers_far_apart_is_leapt_over_and_nothing_else(
    home: Path, garbled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_DARK", 3_000)
    with closing(Store.open(home, "a", NOW)) as store:
        for number in range(20, 200):
            if 20 <= number < 25:
                with store.group():
                    store.state.lsn += 2**32
                    store.state.loose = True
            put(store, number)
        rows = list(store.rows(1, 500))
    garble_leaf(home, rows[int(garbled[1:])].hash)
    left = readable(home, [row.lsn for row in rows])
    assert 100 < left < len(rows)
    looks, look = [], rebuilding._range

    def looked(*given: Any) -> Any:
        looks.append(given)
        assert len(looks) < 100_000, "it is searched number by number"
        return look(*given)

    monkeypatch.setattr(rebuilding, "_range", looked)
    done = rebuild(home, "a", NOW + 10)
    assert done.salvaged == left
    assert done.unreadable > 0


@pytest.mark.parametrize("flip", ["", "pin", "ca"])
def test_a_cloud_node_serves_the_cluster_of_before_where_that_can_be_read(home: Path, flip: str) -> None:
    first, second = public_of(b"1" * 32), public_of(b"2" * 32)
    cluster = cluster_of(first)
    chain = ((second, Signer(b"1" * 32).sign(successor_statement(cluster, second))),)
    with closing(Store.open(home, "a", NOW)) as store, store.group():
        store.pin_cluster(cluster, "shop")
        store.trust(cluster, first, chain)
    if flip:
        with closing(sqlite3.connect(home / FILE)) as connection, connection:
            value, name = {"pin": ("[1", "cluster"), "ca": (b"?" * 32, f"ca:{cluster}")}[flip]
            connection.execute("UPDATE _entgldb_meta SET value = ? WHERE name = ?", (value, name))
    rebuild(home, "a", NOW + 10)
    with closing(Store.open(home, "a", NOW + 20)) as store:
        assert store.pinned_cluster() == (("", "") if flip else (cluster, "shop"))
        believed = {first: cluster, second: cluster}
        if flip == "ca":
            del believed[first]
        assert authorities(store.connection) == believed


def test_what_another_process_keeps_in_the_wal_is_not_left_behind(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "b.db", "1", NOW, lambda done, of: None)
    before = (home / FILE).read_bytes()
    readers: list[sqlite3.Connection] = []

    def reading(done: int) -> None:
        reader = sqlite3.connect(home / swap.PART / FILE)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM _entgldb_meta").fetchone()
        readers.append(reader)

    with pytest.raises(EntglError, match="another process reads") as caught:
        restore.restore(tmp_path / "b.db", home, "a", NOW + 10, authoritative=True, progress=reading)
    readers.pop().close()
    assert caught.value.code == "in-use"
    assert (home / FILE).read_bytes() == before
    done = restore.restore(tmp_path / "b.db", home, "a", NOW + 20, authoritative=True)
    assert done.reissued == 20


@pytest.mark.parametrize("never_started", [False, True])
def test_no_wal_of_another_database_is_left_beside_the_new_one(home: Path, *, never_started: bool) -> None:
    (home / "other").mkdir()
    with closing(Store.open(home / "other", "a", NOW)) as other:
        put(other, 1)
        wal = (home / "other" / f"{FILE}-wal").read_bytes()
    aside = f"{FILE}.before-restore-1"
    (home / FILE).rename(home / f"{FILE}.new")
    for name in (aside, f"{FILE}-wal", FILE if never_started else f"{aside}-wal"):
        (home / name).write_bytes(wal)
    (home / f"{FILE}.swap").write_text(json.dumps({"aside": aside, "facts": {}}))
    with closing(Store.open(home, "a", NOW + 10)) as store:
        assert len(store.documents("users")) == 20
    assert (home / aside).read_bytes() == wal
    assert (home / f"{aside}-wal").exists() is not never_started
