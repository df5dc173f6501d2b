"""What PostgreSQL adds to a store: other tenants, other processes, row-level security, round trips."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError, EntglError, ErrorCode
from entgldb.storage.file.faults import translated
from entgldb.storage.postgres import connection as connections
from entgldb.storage.postgres import schema
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import PostgresFault, Server
from entgldb.storage.postgres.store import LogReader, Store, as_sqlite
from entgldb.storage.postgres.translate import translate
from entgldb.storage.postgres.values import read, stored, stored_as_bytes
from tests.support import postgres

NOW = 1_790_000_000_000


@pytest.fixture
def second() -> Iterator[Server]:
    """The connections of another process."""
    made = Server(postgres.address())
    yield made
    made.close()


def put(store: Store, counter: int, *keys: str) -> int:
    with store.group():
        writes = [Write("users", key, b'{"by":%d}' % counter) for key in keys]
        return store.write(RequestId(b"c" * 16, counter), writes, NOW)[1]


def elsewhere(store: Store, second: Server) -> Store:
    """The same tenant as another process has it."""
    tenant = store.on.tenant
    made = Store(as_sqlite(Connection(second, tenant)), None)
    made.serve()
    return made


def test_two_processes_that_write_one_tenant_make_one_order(second: Server) -> None:
    one = postgres.open_store("a", NOW)
    other = elsewhere(one, second)
    found = [put((one, other)[turn % 2], turn, f"k{turn % 3}", f"n{turn}") for turn in range(1, 9)]
    assert found == [2 * turn for turn in range(1, 9)]
    assert [row.lsn for row in one.rows(1, 100)] == list(range(1, 17))
    # its memory follows when it begins a group
    with other.group():
        pass
    assert one.vector() == other.vector()
    assert one.status()["documents"] == other.status()["documents"] == 11
    reader = LogReader(as_sqlite(Connection(second, one.on.tenant)))
    assert reader.vector() == other.vector()
    assert reader.last_lsn() == 16


@pytest.mark.parametrize("saves", [False, True])
def test_what_one_process_answered_the_other_does_not_do_again(second: Server, *, saves: bool) -> None:
    one = postgres.open_store("a", NOW)
    both = (one, elsewhere(one, second))
    given: dict[RequestId, tuple[list[Write], object]] = {}
    for turn in range(1, 9):
        store, known = both[turn % 2], Write("users", "k", b'{"same":1}')
        # the answer to one in two names a version of before: it does not follow from the log
        writes = [Write("users", f"n{turn}", b"{}"), *[known] * (turn % 4 < 2)]
        request = RequestId(b"c" * 16, turn)
        with store.group():
            assert store.answered(request, writes) is None
            given[request] = (writes, store.write(request, writes, NOW))
            store.state.loose = saves and turn % 3 == 0
        for asked in both:
            with asked.group():
                assert {one: asked.answered(one, writes) for one, (writes, _) in given.items()} == {
                    one: answer for one, (_, answer) in given.items()
                }
    anew = elsewhere(one, second)
    for store in (*both, anew):
        with store.group():
            assert store.state == anew.state
            assert all(store.answered(one, writes) == answer for one, (writes, answer) in given.items())
    assert anew.state.saved.saves == (2 if saves else 0)


def fail(store: Store) -> None:
    store.write(RequestId(b"c" * 16, 2), [Write("users", "x", b"{}")], NOW)
    raise EntglError("no group inside")


def test_a_group_that_is_undone_after_another_process_wrote_forgets_nothing(second: Server) -> None:
    one = postgres.open_store("a", NOW)
    other = elsewhere(one, second)
    put(other, 1, "k")
    with pytest.raises(EntglError, match="no group inside"), one.group():
        fail(one)
    assert put(one, 3, "k") == 2
    assert [row.seq for row in one.rows(1, 9)] == [1, 2]


def test_a_tenant_sees_nothing_of_another_not_even_where_a_statement_forgets_the_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = postgres.open_store("a", NOW), postgres.open_store("b", NOW)
    put(theirs, 1, "planted")

    def forgetful(sql: str, side: int = 0) -> object:
        made = translate(sql, side)
        return made._replace(sql=re.sub(r"\S*tenant = \$1", "$1 = $1", made.sql))

    monkeypatch.setattr(connections, "translate", forgetful)
    assert ours.get("users", "planted") is None
    assert ours.rows(1, 10) == []
    assert len(theirs.rows(1, 10)) == 1
    with ours.group():
        assert ours.connection.execute("DELETE FROM _entgldb_documents WHERE key = 'planted'").rowcount == 0
    assert theirs.get("users", "planted") == b'{"by":1}'


def test_a_row_of_another_tenant_cannot_be_written() -> None:
    ours, theirs = postgres.open_store("a", NOW), postgres.open_store("b", NOW)
    sql = "INSERT INTO entgldb_ended (tenant, origin, seq) VALUES ($1, 'o', 1)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege), ours.group():
        ours.on._held.execute(sql, [theirs.on.tenant])  # type: ignore[union-attr]  # a group runs


def test_a_role_that_sees_all_tenants_is_refused(monkeypatch: pytest.MonkeyPatch, second: Server) -> None:
    monkeypatch.setattr(Server, "alone", lambda *_: [("postgres", True)])
    with pytest.raises(ConfigError, match="can read every row, row-level"):
        schema.prepare(second)


@pytest.mark.parametrize("value", [b"\xff\x00", b"\\x41", "a\x00b", "\\x41", '{"a":1}', None])
def test_what_no_text_of_postgresql_can_hold_is_kept_all_the_same(value: object) -> None:
    assert read(stored(value)) == value
    as_bytes = value if isinstance(value, bytes | None) else str(value).encode()
    assert read(stored_as_bytes(as_bytes)) == as_bytes
    assert "\x00" not in str(stored(value))


def test_a_large_group_takes_few_round_trips() -> None:
    giver, taker = Store.memory("g", b"g", NOW), postgres.open_store("a", NOW)
    with giver.group():
        giver.write(RequestId(b"c" * 16, 1), [Write("users", f"k{n}", b"{}") for n in range(400)], NOW)
    entries = giver.entries([(giver.origin, seq) for seq in range(1, 401)])
    before = taker.on.server.trips
    with taker.group():
        assert taker.apply(entries[:200], NOW).refused == ""
    first = taker.on.server.trips
    with taker.group():
        assert taker.apply(entries[200:], NOW).refused == ""
    # the lock, what is there, all that is written; the first makes origin and collection known
    assert (first - before, taker.on.server.trips - first) == (TRIPS + 4, TRIPS)
    giver.connection.close()


TRIPS = 3
"""Of a group of 200 entries of another writer."""


def test_what_postgresql_does_by_itself_is_refused() -> None:
    store = postgres.open_store("a", NOW)
    for refused in (store.compact_step, lambda: store.connection.execute("PRAGMA page_count")):
        with pytest.raises(EntglError, match="a cloud on PostgreSQL") as told:
            refused()
        assert told.value.code == ErrorCode.UNSUPPORTED


def test_a_server_that_cannot_be_had_is_an_error_of_the_disk() -> None:
    gone = Connection(Server("host=/nowhere dbname=none"), "t")
    with pytest.raises(PostgresFault, match="PostgreSQL: ") as told:
        gone.execute("SELECT lsn FROM _entgldb_last")
    assert translated(told.value, "reading").code == ErrorCode.DISK_ERROR
    with pytest.raises(EntglError, match="is no address of PostgreSQL"):
        Store.connect("postgresql://[", "t", "a", NOW)
