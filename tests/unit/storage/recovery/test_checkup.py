"""A file is looked over read-only: what is whole is not blamed, what is damaged is named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import RUNS_MAX
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.file import open as database
from entgldb.storage.recovery import check
from entgldb.storage.recovery.check import Checkup, Finding
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


@pytest.fixture
def node(tmp_path: Path) -> Path:
    store = Store.open(tmp_path, "lan-1", NOW)
    for n in range(30):
        with store.group():
            body = None if n % 5 == 4 else b'{"n":%d}' % n
            store.write(RequestId(b"c" * 16, n), (Write("users", f"k{n % 10}", body),), NOW)
    store.close()
    return tmp_path


def damage(node: Path, statement: str) -> list[Finding]:
    connection = sqlite3.connect(node / database.FILE)
    connection.execute(statement)
    connection.commit()
    connection.close()
    return look(node)


def look(node: Path, *, deep: bool = True) -> list[Finding]:
    checkup = Checkup.open(node)
    try:
        return checkup.run(deep=deep)
    finally:
        checkup.close()


def test_nothing_is_wrong_with_a_sound_file(node: Path) -> None:
    assert look(node) == []


def test_a_pruned_log_is_sound_above_its_floor(node: Path) -> None:
    connection = sqlite3.connect(node / database.FILE)
    connection.execute("DELETE FROM _entgldb_oplog WHERE seq <= 10")
    connection.execute("UPDATE _entgldb_origins SET floor = 10")
    connection.execute("UPDATE _entgldb_state SET entries = (SELECT count(*) FROM _entgldb_oplog)")
    connection.commit()
    connection.close()
    assert look(node) == []


@pytest.mark.parametrize(
    ("statement", "kinds", "text"),
    [
        ("UPDATE _entgldb_documents SET body = '{}' WHERE key = 'k1'", {"document"}, "digest"),
        ("UPDATE _entgldb_documents SET body = '{' WHERE key = 'k1'", {"document"}, "no JSON"),
        ("UPDATE _entgldb_documents SET seq = 999 WHERE key = 'k1'", {"document"}, "no log"),
        ("DELETE FROM _entgldb_documents WHERE key = 'k1'", {"count"}, "are counted"),
        ("UPDATE _entgldb_oplog SET body = '{}' WHERE seq = 7", {"body"}, "not the body"),
        ("UPDATE _entgldb_oplog SET hash = x'00' WHERE seq = 7", {"chain"}, "link"),
        ("DELETE FROM _entgldb_oplog WHERE seq = 7", {"chain", "count"}, "missing"),
        ("DELETE FROM _entgldb_oplog WHERE seq > 20", {"chain", "count"}, "does not end"),
        ("UPDATE _entgldb_oplog SET header = x'90' WHERE seq = 7", {"chain"}, "cannot be read"),
        ("UPDATE _entgldb_oplog SET key = 'k9' WHERE seq = 7", {"chain"}, "not users k9"),
        ("DELETE FROM _entgldb_oplog WHERE seq < 7", {"chain", "count"}, "follows 0"),
        ("UPDATE _entgldb_origins SET seq = seq - 1", {"chain", "document"}, "goes on behind its head"),
        ("DELETE FROM _entgldb_runs", {"run"}, "is not noted"),
        ("UPDATE _entgldb_runs SET hash = x'00'", {"run"}, "with another entry"),
        (
            "INSERT INTO _entgldb_runs SELECT origin, seq, substr(hash, 1, 8) FROM _entgldb_oplog"
            " WHERE seq = 7",
            {"run"},
            "none begins",
        ),
        ("INSERT INTO _entgldb_runs SELECT origin, 31, hash FROM _entgldb_runs", {"run"}, "behind the end"),
        ("UPDATE _entgldb_runs SET origin = 9", {"run"}, "behind the end"),
    ],
)
def test_damage_is_named(node: Path, statement: str, kinds: set[str], text: str) -> None:
    found = damage(node, statement)
    assert {one.kind for one in found} == kinds
    assert any(text in one.text for one in found)
    assert all(one.hint for one in found)


def test_of_a_pruned_log_the_runs_are_compared_with_its_end(node: Path) -> None:
    with closing(sqlite3.connect(node / database.FILE)) as connection, connection:
        connection.execute("DELETE FROM _entgldb_oplog")
        connection.execute("UPDATE _entgldb_origins SET floor = seq")
        connection.execute("UPDATE _entgldb_state SET entries = 0")
        connection.execute(
            "INSERT INTO _entgldb_runs SELECT id, seq, substr(head, 1, 8) FROM _entgldb_origins"
        )
    assert look(node) == []
    (found,) = damage(node, "UPDATE _entgldb_runs SET hash = x'0011223344556677' WHERE seq > 1")
    assert (found.kind, found.text) == ("run", "a run is noted that begins with another entry of this number")


def test_runs_that_were_forgotten_are_not_missed(node: Path) -> None:
    with closing(Store.open(node, "lan-1", NOW)) as store:
        for number in range(RUNS_MAX):
            store.state.run = ""
            with store.group():
                store.write(RequestId(b"d" * 16, number), (Write("users", "k", b"{}"),), NOW)
    assert look(node) == []


def test_a_torn_page_is_found(node: Path) -> None:
    path = node / database.FILE
    data = bytearray(path.read_bytes())
    for page in range(8, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(data)
    try:
        found = look(node)
    except EntglError as fault:
        assert fault.code.value == "corrupt"  # noqa: PT017 -- either the opening or the look finds it
    else:
        assert "file" in {one.kind for one in found}


def flip(node: Path, column: str, table: str, where: str) -> str:
    """Flip one bit in the last byte of a value; the name of the only origin."""
    with closing(sqlite3.connect(node / database.FILE)) as connection, connection:
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        flipped = value[:-1] + bytes([value[-1] ^ 1])
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (flipped,))
        (name,) = connection.execute("SELECT name FROM _entgldb_origins").fetchone()
    return str(name)


def named(found: list[Finding]) -> list[tuple[str, str]]:
    assert all("--rebuild" in one.hint for one in found)
    return [(one.kind, one.where) for one in found]


def test_a_flipped_byte_of_the_newest_signature_is_named_by_every_look(node: Path) -> None:
    origin = flip(node, "signature", "_entgldb_oplog", "seq = 24")
    assert named(look(node, deep=False)) == [("signature", f"{origin} 24")]
    assert named(look(node)) == [("signature", f"{origin} 24")]


def test_a_flipped_byte_of_an_older_signature_is_named_by_a_deep_look(node: Path) -> None:
    origin = flip(node, "signature", "_entgldb_oplog", "seq = 7")
    assert named(look(node)) == [("signature", f"{origin} 7")]
    # the newest proves all before it
    assert look(node, deep=False) == []


def test_a_flipped_byte_of_a_public_key_is_named_once_by_every_look(node: Path) -> None:
    origin = flip(node, "public_key", "_entgldb_origins", "true")
    assert named(look(node, deep=False)) == [("author", origin)]
    assert named(look(node)) == [("author", origin)]


def test_held_entries_are_looked_over_page_by_page(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "PAGE_ROWS_MAX", 3)
    with closing(sqlite3.connect(node / database.FILE)) as connection, connection:
        connection.execute(
            "INSERT INTO _entgldb_held SELECT origin, seq + 30, hash, header, body, 0, signature"
            " FROM _entgldb_oplog WHERE seq <= 10"
        )
    assert look(node) == []
    origin = flip(node, "signature", "_entgldb_held", "seq = 35")
    flip(node, "header", "_entgldb_held", "seq = 40")
    assert named(look(node)) == [("signature", f"{origin} 35"), ("held", f"{origin} 40")]


@pytest.mark.parametrize(("deep", "checks"), [(False, 1), (True, 24)])
def test_a_look_checks_the_newest_signature_of_a_log_a_deep_one_each_once(
    node: Path, monkeypatch: pytest.MonkeyPatch, deep: bool, checks: int
) -> None:
    seen: list[bytes] = []

    def counted(key: bytes, statement: bytes, signature: bytes) -> bool:
        seen.append(signature)
        return is_signed(key, statement, signature)

    monkeypatch.setattr(check, "is_signed", counted)
    assert look(node, deep=deep) == []
    assert len(seen) == len(set(seen)) == checks
