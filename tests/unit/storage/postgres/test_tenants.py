"""Whole tenants on PostgreSQL: size, removal, export, snapshots."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from entgldb.messages.administration import Event
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, NotFoundError
from entgldb.storage.audit.reading import newest, verify
from entgldb.storage.audit.rows import Act
from entgldb.storage.documents.query import Documents
from entgldb.storage.postgres import tenants
from entgldb.storage.postgres.server import PostgresFault
from entgldb.storage.postgres.store import LogReader, Store, source
from entgldb.storage.postgres.tenants import TenantRows, copy_out
from entgldb.storage.recovery import backup
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.snapshot import freeze
from entgldb.storage.tenants.files import TenantFiles
from tests.support import postgres

NOW = 1_790_000_000_000
BODY = '{"name":"Ada \\u00e9 \\\\ é"}'.encode()


def filled(documents: int = 3) -> Store:
    store = postgres.open_store("cloud", NOW)
    with store.group():
        writes = [Write("users", f"k{n}", BODY) for n in range(documents)]
        store.write(RequestId(b"c" * 16, 1), [*writes, Write("users", "k0", None)], NOW)
    return store


def test_a_copy_is_the_file_of_a_node_and_a_backup_of_it_is_sound(tmp_path: Path) -> None:
    store = filled()
    home = tmp_path / "copy"
    home.mkdir()
    copy_out(postgres.address(), store.on.tenant, home)
    with closing(Documents.open(home)) as documents:
        assert documents.get("users", "k1") == json.loads(BODY)
        assert documents.get("users", "k0") is None
    manifest = backup.write(home, tmp_path / "copy.db", "0", NOW, lambda *_: None)
    assert (manifest.documents, manifest.entries) == (2, 4)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as file:
        assert file.execute("SELECT 1 FROM _entgldb_meta WHERE name = 'private_key'").fetchone() is None


def test_a_copy_goes_on_with_the_audit_log(tmp_path: Path) -> None:
    store = filled()
    with store.group():
        store.trail.note(Act(Event.INVITED, "till-7"), NOW)
    copy_out(postgres.address(), store.on.tenant, tmp_path)
    with closing(sqlite3.connect(tmp_path / "entgldb.db")) as file:
        assert [row.subject for row in newest(file, 10)] == ["till-7"]
        assert verify(file).rows == 1


def test_a_tenant_that_is_not_there_has_no_copy_and_no_size(tmp_path: Path) -> None:
    filled()
    with pytest.raises(NotFoundError, match="there are no data of a tenant nobody"):
        copy_out(postgres.address(), "nobody", tmp_path)
    assert TenantRows(postgres.address(), TenantFiles(tmp_path)).size("nobody") == 0


def test_a_tenant_is_removed_in_steps_and_another_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tenants, "STEP_ROWS", 4)
    gone, stays = filled(5), filled(5)
    rows = TenantRows(postgres.address(), TenantFiles(tmp_path))
    before = rows.size(stays.on.tenant)
    assert before > 5 * len(BODY)
    (tmp_path / "tenants" / gone.on.tenant).mkdir(parents=True)
    steps = 1
    while not rows.remove(gone.on.tenant):
        steps += 1
    assert steps > 2
    assert not (tmp_path / "tenants" / gone.on.tenant).exists()
    assert rows.size(gone.on.tenant) == 0
    assert rows.size(stays.on.tenant) == before
    assert stays.get("users", "k1") == BODY
    again = Store.connect(postgres.address(), gone.on.tenant, "cloud", NOW)
    assert again.size() == (0, 0)


def test_rows_that_take_long_are_removed_in_smaller_steps_and_after_a_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tenants, "STEP_MS", 500)
    monkeypatch.setattr(tenants, "STEP_ROWS", 64)
    gone = filled(40).on
    owner = gone.server
    owner.alone(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN OLD; END $$"
    )
    owner.alone(
        "CREATE TRIGGER slowly BEFORE DELETE ON entgldb_oplog FOR EACH ROW"
        f" WHEN (OLD.tenant = '{gone.tenant}') EXECUTE FUNCTION slowly()"
    )
    left, steps = [41], 0
    try:
        done = False
        while not done:
            # each is a process that begins anew, once in a while
            if steps % 5 == 0:
                rows = TenantRows(postgres.address(), TenantFiles(tmp_path))
            done, steps = rows.remove(gone.tenant), steps + 1
            left.append(gone.execute("SELECT count(*) FROM _entgldb_oplog").fetchone()[0])
    finally:
        owner.alone("DROP FUNCTION slowly CASCADE")
    # the first step was late, others were not
    assert (left[1], left[-1]) == (41, 0)
    assert len({*left}) > 2
    assert left == sorted(left, reverse=True)


def test_a_row_that_takes_longer_than_any_statement_may_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def late(*_: object) -> None:
        raise PostgresFault(psycopg.errors.QueryCanceled("it took too long"))

    monkeypatch.setattr(tenants._Removal, "_remove", late)
    rows, gone = TenantRows(postgres.address(), TenantFiles(tmp_path)), filled(1).on.tenant
    with pytest.raises(EntglError, match="it took too long"):
        any(rows.remove(gone) for _ in range(20))


def test_a_name_that_was_used_once_more_leaves_nothing_of_what_came_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tenants, "STEP_ROWS", 4)
    first = filled(10)
    here, elsewhere = (TenantRows(postgres.address(), TenantFiles(tmp_path)) for _ in range(2))
    for _ in range(3):
        here.remove(first.on.tenant)
    while not elsewhere.remove(first.on.tenant):
        pass
    again = Store.connect(postgres.address(), first.on.tenant, "cloud", NOW)
    with again.group():
        again.write(RequestId(b"c" * 16, 1), [Write("users", f"k{n}", BODY) for n in range(9)], NOW)
    while not here.remove(first.on.tenant):
        pass
    assert here.size(first.on.tenant) == 0
    assert again.connection.execute("SELECT count(*) FROM _entgldb_documents").fetchone() == (0,)


def test_a_snapshot_is_read_page_by_page_and_is_that_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(50)
    monkeypatch.setattr("entgldb.storage.postgres.connection.PAGE_ROWS", 7)
    mine, peer = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    for connection in (mine, peer):
        connection.isolation_level = None
    with closing(source(postgres.address(), store.on.tenant)) as read:
        done = freeze.freeze(read, mine)
    taker = Store.memory("lan", b"lan", NOW)
    with taker.group():
        taker.apply(store.entries([(store.origin, seq) for seq in range(1, 52)]), NOW)
    other = freeze.freeze(taker.connection, peer)
    assert (done.vector, done.rows) == (other.vector, other.rows)
    assert done.rows == 50
    for connection in (mine, peer, taker.connection):
        connection.close()


def test_readers_see_what_is_committed_and_fingerprints_walk() -> None:
    store = filled(10)
    reader = LogReader.connect(postgres.address(), store.on.tenant)
    assert reader.size() == (9, 11)
    assert reader.first_missing({store.origin: 5}) == 6
    assert len(Fingerprints(reader.connection).walk(0)) == 10
