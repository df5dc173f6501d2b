"""Damaged files: a cut or a flipped bit is noticed or harmless, and a rebuilt node loses little."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import CorruptError, EntglError, ErrorCode
from entgldb.messages.model import Entry
from entgldb.storage.file import swap
from entgldb.storage.file.fingerprint import FINGERPRINT_FILE
from entgldb.storage.file.open import FILE, open_damaged, open_reader
from entgldb.storage.recovery import rebuild as salvage
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
PAGE = 4096
FLIPS = int(os.environ.get("ENTGLDB_FLIPS", "100"))


def put(store: Store, key: str, body: bytes | None, now_ms: int = NOW) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, store.last_lsn()), [Write("users", key, body)], now_ms)


def give(source: Store, target: Store, now_ms: int = NOW) -> None:
    with target.group():
        outcome = target.apply([Entry(row.header, row.body) for row in source.rows(1, 500)], now_ms)
    assert outcome.refused == ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    store = Store.open(directory, "a", NOW)
    for number in range(60):
        put(store, f"k{number % 40}", b'{"n":%d,"fill":"%s"}' % (number, b"x" * 300))
    put(store, "k3", None)
    store.close()
    for ending in ("-wal", "-shm"):
        (directory / f"{FILE}{ending}").unlink(missing_ok=True)
    return directory


def shown(file: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(
            "SELECT collection, key, body FROM _entgldb_documents WHERE body IS NOT NULL ORDER BY 1, 2"
        ).fetchall()


def noticed(file: Path) -> bool:
    """Whether reading the whole file says that something is wrong with it."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
            return Checkup(connection).run(still=True) != []
    except (sqlite3.Error, TypeError, ValueError):
        return True


def test_a_file_cut_at_any_page_is_noticed(whole: Path, tmp_path: Path) -> None:
    data = (whole / FILE).read_bytes()
    cut = tmp_path / FILE
    for size in range(PAGE, len(data), PAGE):
        cut.write_bytes(data[:size])
        assert noticed(cut), size


def digested(file: Path) -> set[int]:
    """The places of the file's bytes that have a digest: headers and bodies, in the log and as documents.

    They are a fifth of a small file: each empty table and index has a page of its own."""
    data = file.read_bytes()
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute(
            "SELECT header FROM _entgldb_oplog UNION SELECT CAST(body AS BLOB) FROM _entgldb_oplog"
            " WHERE body IS NOT NULL"
        ).fetchall()
    found: set[int] = set()
    for (text,) in rows:
        at = data.find(text)
        while at >= 0:
            found.update(range(at, at + len(text)))
            at = data.find(text, at + len(text))
    return found


def test_a_flipped_byte_is_noticed_or_changes_no_document(whole: Path, tmp_path: Path) -> None:
    flipped = tmp_path / FILE
    shutil.copy(whole / FILE, flipped)
    with closing(sqlite3.connect(flipped)) as connection:
        connection.execute("VACUUM")  # of what was replaced the bytes would still be there, and free
    data, right, must = flipped.read_bytes(), shown(flipped), digested(flipped)
    chance, hits = random.Random(4), 0
    for _ in range(FLIPS):
        at = chance.randrange(len(data))
        flipped.write_bytes(data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :])
        hits += at in must
        if not noticed(flipped):
            assert at not in must
            assert shown(flipped) == right, at
    assert hits > FLIPS // 8


def test_opening_a_damaged_file_raises_ours_or_works(whole: Path, tmp_path: Path) -> None:
    data, chance = (whole / FILE).read_bytes(), random.Random(5)
    for number in range(40):
        home = tmp_path / str(number)
        home.mkdir()
        at = chance.randrange(len(data))
        (home / FILE).write_bytes(data[:at] + b"\xff" * 64 + data[at + 64 :])
        with contextlib.suppress(EntglError):
            Store.open(home, "a", NOW).close()


def damaged(home: Path) -> None:
    """Pages in the middle of the log are garbage, and the node had not stopped in good order."""
    connection = sqlite3.connect(home / FILE)
    connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES ('running', 'before')")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (root,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex__entgldb_documents_1'"
    ).fetchone()
    connection.close()
    for ending in ("-wal", "-shm"):
        (home / f"{FILE}{ending}").unlink(missing_ok=True)
    data = bytearray((home / FILE).read_bytes())
    data[(root - 1) * PAGE : root * PAGE] = b"\xa5" * PAGE
    (home / FILE).write_bytes(data)


def home_of(whole: Path, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    for name in (FILE, FINGERPRINT_FILE):
        shutil.copy(whole / name, home / name)
    return home


def test_a_damaged_node_is_begun_anew_and_its_unsent_writes_come_back(whole: Path, tmp_path: Path) -> None:
    home = home_of(whole, tmp_path)
    peer = Store.memory("b", b"b" * 32, NOW)
    store = Store.open(home, "a", NOW)
    give(store, peer)
    (old,) = peer.vector()
    put(store, "unsent", b'{"n":"unsent"}', NOW + 1)
    put(store, "k5", b'{"n":"unsent, overtaken"}', NOW + 2)
    store.close()
    put(peer, "k5", b'{"n":"newer"}', NOW + 3)
    damaged(home)
    with pytest.raises(CorruptError) as fault:
        Store.open(home, "a", NOW)
    assert "--rebuild" in fault.value.hint

    done = salvage.rebuild(home, "a", NOW + 10)
    assert (done.salvaged, done.unreadable) == (63, 0)
    assert (home / done.set_aside).exists()
    again = Store.open(home, "a", NOW + 10)
    assert again.status()["documents"] == 0
    assert again.status()["salvaged"] == 63
    assert again.reborn is None
    give(peer, again, NOW + 20)
    with again.group():
        assert again.reissue_salvaged(NOW + 20) == 2
    give(again, peer, NOW + 30)
    for node in (again, peer):
        documents = dict(node.documents("users"))
        assert documents["unsent"] == b'{"n":"unsent"}'
        assert documents["k5"] == b'{"n":"newer"}'
        conflicts = node.connection.execute("SELECT key, body FROM _entgldb_conflicts").fetchall()
        assert conflicts == [("k5", '{"n":"unsent, overtaken"}')]
        assert node.status()["quarantined"] == 0
        assert Checkup(node.connection).run(still=True) == []
    assert again.vector() == peer.vector()
    assert again.vector()[old][0] == 61
    with again.group():
        assert again.reissue_salvaged(NOW + 40) == 0
    again.close()
    peer.close()


@pytest.mark.parametrize("name", ["public_key", "private_key"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_file_whose_keys_are_not_its_writers_is_refused_by_name_and_can_be_rebuilt(
    whole: Path, tmp_path: Path, name: str, cut: int
) -> None:
    home = home_of(whole, tmp_path)
    with closing(sqlite3.connect(home / FILE)) as connection, connection:
        (key,) = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (name,)).fetchone()
        wrong = bytes([key[0] ^ 1]) + key[1 : len(key) - cut]
        connection.execute("UPDATE _entgldb_meta SET value = ? WHERE name = ?", (wrong, name))
    with pytest.raises(CorruptError, match="the keys in the file are not those of a/") as caught:
        Store.open(home, "a", NOW + 10)
    assert "--rebuild" in caught.value.hint
    assert salvage.rebuild(home, "a", NOW + 10).salvaged == 61


def test_a_wrong_signature_or_public_key_is_not_carried_over_by_a_rebuild(
    whole: Path, tmp_path: Path
) -> None:
    home = home_of(whole, tmp_path)
    with closing(sqlite3.connect(home / FILE)) as connection, connection:
        connection.execute("UPDATE _entgldb_oplog SET signature = zeroblob(64)")
        connection.execute("UPDATE _entgldb_origins SET public_key = zeroblob(32)")
    assert noticed(home / FILE)
    assert salvage.rebuild(home, "a", NOW + 10).salvaged == 61
    again = Store.open(home, "a", NOW + 20)
    with again.group():
        assert again.reissue_salvaged(NOW + 20) == 40
    assert Checkup(again.connection).run(deep=True) == []
    signed = again.connection.execute("SELECT count(*) FROM _entgldb_oplog WHERE signature IS NOT NULL")
    assert signed.fetchone()[0] > 0
    again.close()


def test_rows_that_cannot_be_read_are_counted_and_cost_no_others(whole: Path, tmp_path: Path) -> None:
    home = home_of(whole, tmp_path)
    with closing(open_damaged(home)) as connection:
        last = connection.execute("SELECT max(lsn) FROM _entgldb_oplog").fetchone()[0]
    data = (home / FILE).read_bytes()
    assert b'"n":45,' in data
    (home / FILE).write_bytes(data.replace(b'"n":45,', b'"n":00,'))
    done = salvage.rebuild(home, "a", NOW + 10)
    assert done.unreadable == 1
    assert done.salvaged + done.unreadable == last


def test_a_page_of_the_log_that_is_garbage_costs_its_own_rows(whole: Path, tmp_path: Path) -> None:
    home = home_of(whole, tmp_path)
    data = bytearray((home / FILE).read_bytes())
    page = data.rfind(b'"n":45,') // PAGE * PAGE
    while data.find(b'"n":45,', 0, page) >= 0 and data[page] != 0x0D:
        page -= PAGE
    data[page : page + 8] = b"\xff" * 8
    (home / FILE).write_bytes(data)
    done = salvage.rebuild(home, "a", NOW + 10)
    assert done.salvaged + done.unreadable == 61
    assert done.salvaged > 40


@pytest.mark.parametrize("step", ["carry_over", "write_whole"])
def test_a_rebuild_without_room_changes_nothing_and_is_done_when_there_is_some(
    whole: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    home = home_of(whole, tmp_path)
    before = (home / FILE).read_bytes()
    with monkeypatch.context() as full:
        full.setattr(salvage if step == "carry_over" else swap, step, no_room)
        with pytest.raises(EntglError) as caught:
            salvage.rebuild(home, "a", NOW + 10)
    assert caught.value.code is ErrorCode.DISK_FULL
    assert (home / FILE).read_bytes() == before
    done = salvage.rebuild(home, "a", NOW + 20)
    assert done.salvaged == 61
    with closing(open_reader(home)) as connection:
        assert connection.execute("SELECT count(*) FROM _entgldb_salvaged").fetchone() == (61,)


@pytest.mark.parametrize("step", ["sync", "write_whole"])
def test_a_swap_that_the_disk_cuts_short_is_completed_by_the_next_start(
    whole: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, done = home_of(whole, tmp_path), 0
    real = getattr(swap, step)

    def worn_out(*given: Any) -> None:
        nonlocal done
        done += 1
        real(*given)
        # once the note is there
        if step == "write_whole" or done == 3:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as worn:
        worn.setattr(swap, step, worn_out)
        with pytest.raises(EntglError) as caught:
            salvage.rebuild(home, "a", NOW + 10)
    assert caught.value.code is ErrorCode.DISK_ERROR
    store = Store.open(home, "a", NOW + 20)
    assert store.status()["salvaged"] == 61
    store.close()
    assert "completed by the next start" in caught.value.text
    assert len(list(home.glob(f"{FILE}.corrupt-*"))) == 1


def test_a_note_that_is_none_is_named(whole: Path, tmp_path: Path) -> None:
    home = home_of(whole, tmp_path)
    (home / f"{FILE}.swap").write_text('{"aside": 1')
    with pytest.raises(CorruptError, match="swap is damaged"):
        Store.open(home, "a", NOW)


def test_a_second_rebuild_keeps_what_the_first_has_carried_over(whole: Path, tmp_path: Path) -> None:
    home = home_of(whole, tmp_path)
    first = salvage.rebuild(home, "a", NOW + 10)
    assert salvage.rebuild(home, "a", NOW + 20).salvaged == first.salvaged == 61


def test_a_file_that_is_no_database_at_all_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\x00" * 10_000)
    done = salvage.rebuild(tmp_path, "a", NOW)
    assert (done.salvaged, done.unreadable) == (0, 0)
    Store.open(tmp_path, "a", NOW).close()
