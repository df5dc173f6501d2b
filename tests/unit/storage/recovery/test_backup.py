"""Backups: whole, checked, without what is private; and what their restore makes of a node."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError, CorruptError, EntglError, TokenExpired
from entgldb.messages.model import Entry, Vector
from entgldb.storage.documents.query import Documents
from entgldb.storage.file import swap
from entgldb.storage.file.open import FILE
from entgldb.storage.file.schema import DEVELOPMENT_ID, FORMAT
from entgldb.storage.postgres.tenants import copy_out
from entgldb.storage.recovery import backup, restore
from entgldb.storage.store import Store
from tests.support import next_format, postgres

NOW = 1_790_000_000_000
CANARY = b"canary-in-clear-" + b"c4n4ry" * 8


def put(store: Store, key: str, body: bytes | None, now_ms: int = NOW, collection: str = "users") -> None:
    with store.group():
        request = RequestId(b"c" * 16, store.last_lsn())
        store.write(request, [Write(collection, key, body)], now_ms)


def give(source: Store, target: Store, now_ms: int = NOW) -> None:
    with target.group():
        outcome = target.apply([Entry(row.header, row.body) for row in source.rows(1, 500)], now_ms)
    assert outcome.refused == ""


def both_ways(one: Store, two: Store, now_ms: int = NOW) -> None:
    give(one, two, now_ms)
    give(two, one, now_ms)
    assert one.vector() == two.vector()


def made(directory: Path, target: Path) -> backup.Manifest:
    return backup.write(directory, target, "0", NOW, lambda done, of: None)


@pytest.fixture(params=["file", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A node's directory with two documents; it is closed. Or the copy of a tenant on PostgreSQL."""
    directory = tmp_path / "home"
    directory.mkdir()
    far = request.param == "postgres"
    store = postgres.open_store("a", NOW) if far else Store.open(directory, "a", NOW)
    put(store, "one", b'{"n":1}')
    put(store, "two", b'{"n":2}')
    if isinstance(store, postgres.Store):
        copy_out(postgres.address(), store.on.tenant, directory)
    store.close()
    return directory


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE _entgldb_oplog SET signature = zeroblob(64) WHERE seq = 1",
        "UPDATE _entgldb_origins SET public_key = zeroblob(32)",
    ],
)
def test_a_wrong_signature_or_public_key_comes_into_no_backup_and_out_of_none(
    home: Path, tmp_path: Path, damage: str
) -> None:
    target, other = tmp_path / "b.db", tmp_path / "c.db"
    made(home, target)
    for file in (target, home / FILE):
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(damage)
    # as if the digest beside it had been made of what it is now
    target.with_name("b.db.json").unlink()
    with pytest.raises(CorruptError, match="signature"):
        restore.restore(target, home, "a", NOW + 10)
    with pytest.raises(CorruptError, match="signature"):
        made(home, other)
    assert not other.exists()


def test_a_backup_of_a_node_that_writes_is_of_one_moment(home: Path, tmp_path: Path) -> None:
    store = Store.open(home, "a", NOW)
    for number in range(200):
        put(store, f"k{number}", b'{"fill":"' + b"x" * 9000 + b'"}')
    moments: list[int] = []

    def meanwhile(done: int, of: int) -> None:
        moments.append(done)
        put(store, f"late{done}", b'{"fill":"' + b"y" * 9000 + b'"}')

    manifest = backup.write(home, tmp_path / "b.db", "0", NOW, meanwhile)
    assert len(moments) >= 2
    assert (manifest.documents, manifest.entries) == (202, 202)
    assert backup.verify(tmp_path / "b.db") == manifest
    assert store.status()["documents"] == 202 + len(moments)
    store.close()


def test_what_it_is_stands_in_it_and_beside_it(home: Path, tmp_path: Path) -> None:
    manifest = made(home, tmp_path / "b.db")
    beside = json.loads((tmp_path / "b.db.json").read_text())
    assert beside == {"schema_version": 1, **manifest._asdict()}
    assert (manifest.node_id, manifest.documents, manifest.entries) == ("a", 2, 2)
    assert manifest.vector == {manifest.origin: [2, manifest.vector[manifest.origin][1]]}  # type: ignore[index]  # a pair
    assert backup.read_manifest(tmp_path / "b.db")._replace(sha256=manifest.sha256) == manifest
    for name in ("b.db", "b.db.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.db", "b.db.json", "home"]


@pytest.mark.parametrize("home", ["file"], indirect=True)
def test_nothing_private_is_in_any_byte_of_it(home: Path, tmp_path: Path) -> None:
    store = Store.open(home, "a", NOW)
    (key,) = store.connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'private_key'").fetchone()
    store.connection.execute("INSERT INTO _entgldb_requests VALUES (9999, ?, 1, 1, ?)", (b"z" * 16, CANARY))
    store.connection.execute("INSERT INTO _entgldb_meta VALUES ('freed', ?)", (CANARY * 2000,))
    store.connection.execute("DELETE FROM _entgldb_meta WHERE name = 'freed'")
    assert store.connection.execute("PRAGMA freelist_count").fetchone()[0] > 0
    store.checkpoint()
    made(home, tmp_path / "b.db")
    assert CANARY in (home / FILE).read_bytes() + (home / f"{FILE}-wal").read_bytes()
    found = (tmp_path / "b.db").read_bytes() + (tmp_path / "b.db.json").read_bytes()
    assert [secret for secret in (key, CANARY, CANARY[:24]) if secret in found] == []
    store.close()


def test_a_backup_that_fails_leaves_nothing(home: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(home / FILE)
    connection.execute("UPDATE _entgldb_documents SET body = '{}' WHERE key = 'one'")
    connection.commit()
    connection.close()
    with pytest.raises(CorruptError, match="users one: the body is not the one"):
        made(home, tmp_path / "b.db")
    with pytest.raises(ConfigError, match="No such file"):
        made(home, tmp_path / "nowhere" / "b.db")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_found(home: Path, tmp_path: Path, place: float) -> None:
    made(home, tmp_path / "b.db")
    damaged = bytearray((tmp_path / "b.db").read_bytes())
    damaged[int(len(damaged) * place)] ^= 1
    (tmp_path / "b.db").write_bytes(damaged)
    with pytest.raises(CorruptError):
        backup.verify(tmp_path / "b.db")


@pytest.mark.parametrize("told", [b"{", b"[]", b'{"node_id":"a"}', b"\xff"])
def test_a_damaged_manifest_is_named(home: Path, tmp_path: Path, told: bytes) -> None:
    made(home, tmp_path / "b.db")
    (tmp_path / "b.db.json").write_bytes(told)
    with pytest.raises(CorruptError, match=r"b\.db\.json"):
        backup.verify(tmp_path / "b.db")


def test_what_stands_in_the_way_is_told_and_nothing_is_changed(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "b.db")
    (tmp_path / "c.db.part").mkdir()
    with pytest.raises(EntglError, match=r"c\.db"):
        made(home, tmp_path / "c.db")
    (home / swap.PART).write_text("")
    with pytest.raises(EntglError, match="nothing was changed"):
        restore.restore(tmp_path / "b.db", home, "a", NOW)


@pytest.mark.parametrize("note", ['{"aside": "x", "facts": []}', '{"aside": 1, "facts": {}}', "[]"])
def test_a_note_that_is_none_is_named(tmp_path: Path, note: str) -> None:
    (tmp_path / f"{FILE}.swap").write_text(note)
    with pytest.raises(CorruptError, match="swap is damaged"):
        swap.complete(tmp_path)


def test_another_file_is_no_backup(home: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 8192)
    with pytest.raises(CorruptError):
        backup.verify(tmp_path / "x")
    with pytest.raises(ConfigError, match="no backup"):
        backup.verify(home / FILE)
    with pytest.raises(EntglError, match="no file"):
        backup.verify(tmp_path / "nothing")


def put_back(file: Path, home: Path, *, authoritative: bool = False, now_ms: int = NOW) -> Store:
    restore.restore(file, home, "a", now_ms, authoritative=authoritative)
    return Store.open(home, "a", now_ms)


def seqs(vector: Vector) -> dict[str, int]:
    return {origin: seq for origin, (seq, _) in vector.items()}


def test_a_restored_node_is_a_new_writer_and_gets_back_what_its_peers_have(
    home: Path, tmp_path: Path
) -> None:
    made(home, tmp_path / "b.db")
    store, peer = Store.open(home, "a", NOW), Store.memory("b", b"b" * 32, NOW)
    put(store, "three", b'{"n":3}')
    put(store, "one", None)
    give(store, peer)
    old = store.origin
    documents = Documents.open(home)
    token = documents.token()
    documents.close()
    store.close()

    again = put_back(tmp_path / "b.db", home)
    assert again.origin != old
    assert [row["why"] for row in again.status()["incarnations"]] == ["restored"]  # type: ignore[index,union-attr,call-overload]  # rows of a report
    assert again.get("users", "one") == b'{"n":1}'
    put(again, "new", b'{"n":4}')
    both_ways(again, peer)
    assert [key for key, _ in again.documents("users")] == ["new", "three", "two"]
    assert seqs(again.vector()) == {old: 4, again.origin: 1}
    assert again.status()["quarantined"] == peer.status()["quarantined"] == 0
    again.close()
    documents = Documents.open(home)
    with pytest.raises(TokenExpired):
        documents.changes(token)
    documents.close()
    peer.close()


def test_a_restore_that_kept_the_incarnation_would_be_noticed(home: Path, tmp_path: Path) -> None:
    """A mutant: the restored node and its peers have two branches of one log."""
    made(home, tmp_path / "b.db")
    store, peer = Store.open(home, "a", NOW), Store.memory("b", b"b" * 32, NOW)
    put(store, "three", b'{"n":3}')
    give(store, peer)
    store.close()
    with patch.object(Store, "begin_anew", lambda *args: None):
        again = put_back(tmp_path / "b.db", home)
    put(again, "new", b'{"n":4}')
    give(peer, again)
    assert again.status()["quarantined"] == 1
    again.close()
    peer.close()


def test_what_was_there_is_set_aside_whole(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "b.db")
    store = Store.open(home, "a", NOW)
    put(store, "later", b'{"n":9}')
    store.close()
    put_back(tmp_path / "b.db", home).close()
    (aside,) = [path for path in home.glob("*.before-restore-*") if path.name.endswith(str(NOW))]
    kept = sqlite3.connect(aside)
    assert kept.execute("SELECT count(*) FROM _entgldb_documents").fetchone() == (3,)
    kept.close()


def test_authoritative_wins_over_what_was_written_before_it_and_over_nothing_after_it(
    home: Path, tmp_path: Path
) -> None:
    made(home, tmp_path / "b.db")
    store, peer = Store.open(home, "a", NOW), Store.memory("b", b"b" * 32, NOW)
    give(store, peer)
    store.close()
    put(peer, "one", b'{"n":"changed"}', NOW + 1000)
    put(peer, "two", None, NOW + 1001)
    put(peer, "since", b'{"n":"unknown to the backup"}', NOW + 1002)

    assert restore.preview(tmp_path / "b.db") == {"users": 2}
    again = put_back(tmp_path / "b.db", home, authoritative=True, now_ms=NOW + 5000)
    both_ways(again, peer, NOW + 6000)
    for node in (again, peer):
        assert dict(node.documents("users")) == {
            "one": b'{"n":1}',
            "two": b'{"n":2}',
            "since": b'{"n":"unknown to the backup"}',
        }
    put(peer, "one", b'{"n":"after"}', NOW + 7000)
    give(peer, again, NOW + 8000)
    assert again.get("users", "one") == b'{"n":"after"}'
    again.close()
    peer.close()


def test_what_an_authoritative_restore_overwrites_stands_in_the_conflicts(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "b.db")
    peer = Store.memory("b", b"b" * 32, NOW)
    store = Store.open(home, "a", NOW)
    give(store, peer)
    store.close()
    put(peer, "one", b'{"n":"changed"}', NOW + 1000)
    again = put_back(tmp_path / "b.db", home, authoritative=True, now_ms=NOW + 5000)
    both_ways(again, peer, NOW + 6000)
    for node in (again, peer):
        found = node.connection.execute("SELECT key, body FROM _entgldb_conflicts").fetchall()
        assert found == [("one", '{"n":"changed"}')]
    again.close()
    peer.close()


def test_only_a_backup_of_this_node_is_restored(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "b.db")
    before = sorted(path.name for path in home.iterdir())
    with pytest.raises(ConfigError, match="is of node a"):
        restore.restore(tmp_path / "b.db", home, "b", NOW)
    assert sorted(path.name for path in home.iterdir()) == before


def test_a_file_of_an_earlier_format_is_brought_up_first(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_format.install(monkeypatch.setattr)
    with pytest.raises(ConfigError, match=f"format {FORMAT}"):
        made(home, tmp_path / "b.db")
    Store.open(home, "a", NOW).close()
    assert made(home, tmp_path / "b.db").format == FORMAT + 1


def test_a_backup_from_before_the_first_release_is_refused(home: Path, tmp_path: Path) -> None:
    made(home, tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as old:
        old.execute(f"PRAGMA application_id = {DEVELOPMENT_ID}")
    with pytest.raises(ConfigError, match=r"b\.db was written before the first release"):
        backup.read_manifest(tmp_path / "b.db")
