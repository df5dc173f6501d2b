"""Statements that change rows wait for the next round trip: in order, bounded, and never past a savepoint.

Some are handed over before it, and are carried out meanwhile.
"""

from __future__ import annotations

from contextlib import closing, suppress

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.model import Entry
from entgldb.storage import store as stores
from entgldb.storage.log import append
from entgldb.storage.postgres import connection as connections
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import HELD_S, SET_TO_WRITE, PostgresFault, Server, server
from entgldb.storage.postgres.store import Store
from entgldb.storage.postgres.values import Array
from tests.support import postgres

NOW = 1_790_000_000_000
PUT = "INSERT OR REPLACE INTO _entgldb_ended VALUES (?, ?)"
PREPARED_AFTER = 5
"""Uses of a statement before psycopg has it prepared."""
TOO_LARGE = 2**63
"""No column of PostgreSQL takes it."""


@pytest.fixture
def on() -> Connection:
    return postgres.open_store("a", NOW).on


def ended(on: Connection) -> list[tuple[str, int]]:
    return on.execute("SELECT origin, seq FROM _entgldb_ended ORDER BY origin").fetchall()


def test_they_go_with_the_next_question_in_order(on: Connection) -> None:
    on.execute("BEGIN IMMEDIATE")
    before = on.server.trips
    on.execute(PUT, ("o", 1))
    on.executemany(PUT, [("o", 2), ("p", 1), ("p", 2)])
    deleted = on.execute("DELETE FROM _entgldb_ended WHERE origin = 'p'")
    on.execute(PUT, ("q", 1))
    assert on.server.trips == before
    assert ended(on) == [("o", 2), ("q", 1)]
    assert (on.server.trips - before, deleted.rowcount) == (1, 1)
    changed = on.total_changes
    updated = on.execute("UPDATE _entgldb_ended SET seq = 9")
    assert (updated.rowcount, on.total_changes - changed) == (2, 2)
    on.execute("COMMIT")
    assert ended(on) == [("o", 9), ("q", 9)]


def test_a_group_that_changed_no_row_leaves_the_version(on: Connection) -> None:
    on.execute("BEGIN IMMEDIATE")
    on.execute("COMMIT")
    seen = on.seen
    on.execute("BEGIN IMMEDIATE")
    on.execute("DELETE FROM _entgldb_ended WHERE origin = 'nobody'")
    on.execute("COMMIT")
    assert on.seen == seen


def test_no_more_waits_than_is_bounded(on: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAITING_BYTES_MAX", 3 * connections._ROW_BYTES)
    on.execute("BEGIN IMMEDIATE")
    before = on.server.trips
    for number in range(8):
        on.execute(PUT, (f"o{number}", 1))
    assert on.server.trips - before == 2
    on.executemany(PUT, [("x" * connections.WAITING_BYTES_MAX, 1)])
    assert on.server.trips - before == 3
    on.execute("COMMIT")
    assert len(ended(on)) == 9


def test_none_waits_at_a_savepoint_so_that_each_undoes_its_own(on: Connection) -> None:
    on.execute("BEGIN IMMEDIATE")
    on.execute(PUT, ("kept", 1))
    on.execute("SAVEPOINT request")
    on.execute(PUT, ("undone", 1))
    on.execute("ROLLBACK TO request")
    on.execute("RELEASE request")
    on.execute("SAVEPOINT request")
    on.execute("UPDATE _entgldb_ended SET seq = ?", (TOO_LARGE,))
    with pytest.raises((PostgresFault, psycopg.DataError)):
        on.execute("RELEASE request")
    on.execute("ROLLBACK TO request")
    on.execute("RELEASE request")
    on.execute("COMMIT")
    assert ended(on) == [("kept", 1)]


@pytest.mark.parametrize("can", [True, False], ids=["started", "by a psycopg that cannot start any"])
def test_those_that_are_handed_over_are_carried_out_in_order_before_anybody_asks(
    on: Connection, monkeypatch: pytest.MonkeyPatch, *, can: bool
) -> None:
    monkeypatch.setattr(connections, "CAN_START", can)
    on.execute("BEGIN IMMEDIATE")
    on.executemany(PUT, [("o", 1), ("p", 1)])
    before = on.server.trips
    on.hand_over()
    deleted = on.execute("DELETE FROM _entgldb_ended WHERE origin = 'o'")
    on.hand_over()
    on.execute(PUT, ("q", 1))
    assert on.server.trips == before
    assert (deleted.rowcount, on.server.trips - before) == (1, 1)
    on.execute("COMMIT")
    assert ended(on) == [("p", 1), ("q", 1)]


@pytest.mark.parametrize("undo", ["ROLLBACK TO request", "ROLLBACK"])
def test_one_that_fails_once_it_was_handed_over_undoes_what_it_is_in(on: Connection, undo: str) -> None:
    for _ in range(2 * PREPARED_AFTER):
        on.execute("BEGIN IMMEDIATE")
        on.execute(PUT, ("kept", 1))
        on.execute("SAVEPOINT request")
        on.execute("INSERT INTO _entgldb_ended VALUES ('o', NULL)")
        # PostgreSQL may be so quick that it is told at once
        with suppress(PostgresFault):
            on.hand_over()
        on.execute(undo)
        if on.in_transaction:
            on.execute("COMMIT")
    assert ended(on) == [("kept", 1)] * (undo != "ROLLBACK")


def test_a_process_that_stops_once_it_has_handed_over_does_not_hold_the_tenant(
    on: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SET_TO_WRITE", SET_TO_WRITE.replace(f"'{HELD_S}s'", "'200ms'"))
    on.execute("BEGIN IMMEDIATE")
    on.execute(PUT, ("o", 1))
    on.hand_over()
    with psycopg.connect(postgres.address()) as other:
        other.execute("SELECT set_config('entgldb.tenant', %s, true)", [on.tenant])
        other.execute(f"SET LOCAL lock_timeout = '{HELD_S}s'")
        other.execute("SELECT 1 FROM entgldb_tenants WHERE tenant = %s FOR UPDATE", [on.tenant])
    with pytest.raises(PostgresFault):
        on.execute("COMMIT")
    assert ended(on) == []


def test_entries_that_are_handed_over_as_they_come_make_what_they_make_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(append, "HANDED_ROWS", 4)
    giver = stores.Store.memory("giver", b"g", NOW)
    for turn in range(1, 13):
        with giver.group():
            writes = [Write("users", f"k{turn * n % 7}", None if n == 3 else b"{}") for n in range(1, 5)]
            giver.write(RequestId(b"g" * 16, turn), writes, NOW + turn)
    entries = [Entry(row.header, row.body) for row in giver.rows(1, 500)]
    here, there = stores.Store.memory("cloud", b"c", NOW), postgres.open_store("cloud", NOW)
    for store in (here, there):
        with store.group():
            # the one behind the gap is refused, all before it stay
            outcome = store.apply([*entries[:-2], entries[-1]], NOW + 20)
        assert outcome.refused == Reason.GAP.value
    assert there.rows(1, 500) == here.rows(1, 500)
    assert [*there.documents("users")] == [*here.documents("users")]
    assert (there.vector(), there.size()) == (here.vector(), (here.state.documents, here.state.entries))
    for one in (giver, here):
        one.connection.close()


def write_and_fail(store: Store) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "k", b"{}")], NOW)
        store.on.execute("INSERT INTO _entgldb_ended VALUES ('o', NULL)")


def test_one_that_is_refused_at_the_commit_is_known_to_be_undone() -> None:
    store = postgres.open_store("a", NOW)
    with pytest.raises(EntglError) as told:
        write_and_fail(store)
    assert told.value.code == ErrorCode.INTERNAL
    assert told.value.definite
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "k", b"{}")], NOW)
    assert store.last_lsn() == 1


def test_a_commit_that_postgresql_answers_by_a_roll_back_is_an_error(on: Connection) -> None:
    on.execute("BEGIN IMMEDIATE")
    on.execute("INSERT INTO _entgldb_ended VALUES ('o', NULL)")
    with pytest.raises(PostgresFault):
        ended(on)
    with pytest.raises(PostgresFault, match="had failed before"):
        on.execute("COMMIT")
    assert not on.in_transaction
    assert ended(on) == []


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("BIGINT", [1, -(2**63), 2**63 - 1]),
        ("BIGINT", [None, 0]),
        ("TEXT", ["", "a", "\u00e9\U0001f600", '"{,}\\']),
        ("TEXT", [None, "a"]),
        ("TEXT", [None]),
        ("BYTEA", [b"", b"\x00\xff", b"\\x41"]),
        ("BYTEA", [b"a", None]),
    ],
)
def test_an_array_comes_as_it_was(kind: str, column: list[object]) -> None:
    sql = f"SELECT one FROM UNNEST(CAST($1 AS {kind}[])) WITH ORDINALITY AS a(one, n) ORDER BY n"
    rows = server(postgres.address()).alone(sql, [Array.of(kind, column)])
    assert [one for (one,) in rows] == column


def test_a_truth_is_a_number() -> None:
    sql = "SELECT one FROM UNNEST(CAST($1 AS BIGINT[])) AS a(one)"
    assert server(postgres.address()).alone(sql, [Array.of("BIGINT", [True, False])]) == [(1,), (0,)]


@pytest.mark.parametrize("undo", ["ROLLBACK TO request", "ROLLBACK"])
def test_a_statement_that_a_failed_round_trip_was_to_prepare_is_carried_out_later(
    on: Connection, undo: str
) -> None:
    alone = Connection(Server(postgres.address()), on.tenant, alone=True)
    with closing(alone):
        for _ in range(PREPARED_AFTER):
            assert ended(alone) == []
        for _ in range(2):
            # psycopg forgets what it has prepared at the first roll-back of its kind alone
            alone.execute("BEGIN IMMEDIATE")
            alone.execute("SAVEPOINT request")
            alone.execute(undo)
            if alone.in_transaction:
                alone.execute("ROLLBACK")
        alone.execute("BEGIN IMMEDIATE")
        alone.execute("SAVEPOINT request")
        alone.execute("INSERT INTO _entgldb_ended VALUES ('o', NULL)")
        with pytest.raises(PostgresFault, match="null value"):
            ended(alone)
        alone.execute(undo)
        assert ended(alone) == []
