"""A connection that PostgreSQL ends: the group that ran is undone, the next has a new connection."""

from __future__ import annotations

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import Server
from entgldb.storage.postgres.store import Store, as_sqlite
from tests.support import postgres

NOW = 1_790_000_000_000


def end_all(server: Server) -> None:
    """As a restart of PostgreSQL, for the connections of one process."""
    wanted = [one.info.backend_pid for one in [*server._idle]]
    with psycopg.connect(postgres.address(), autocommit=True) as other:
        for pid in wanted:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def cut(store: Store, counter: int, point: str) -> None:
    """Write in a group whose connection ends at a point of it."""
    held = store.on._held
    assert held is not None
    if point == "before":
        end(held.info.backend_pid)
    store.write(RequestId(b"c" * 16, counter), [Write("users", "k", b'{"n":%d}' % counter)], NOW)
    if point == "after":
        end(held.info.backend_pid)


def end(pid: int) -> None:
    with psycopg.connect(postgres.address(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.fixture
def store() -> Store:
    """Alone on its connections."""
    first = postgres.open_store("a", NOW)
    alone = Store(as_sqlite(Connection(Server(postgres.address()), first.on.tenant)), None)
    alone.serve()
    return alone


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_group_whose_connection_ends_is_undone_and_the_next_goes_on(store: Store, point: str) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "k", b'{"n":1}')], NOW)
    with pytest.raises(EntglError) as told, store.group():
        cut(store, 2, point)
    assert told.value.code == ErrorCode.DISK_ERROR
    assert store.get("users", "k") == b'{"n":1}'
    with store.group():
        assert store.answered(RequestId(b"c" * 16, 2), NOW) is None
        store.write(RequestId(b"c" * 16, 2), [Write("users", "k", b'{"n":2}')], NOW)
    assert [row.seq for row in store.rows(1, 9)] == [1, 2]
    assert store.get("users", "k") == b'{"n":2}'
    store.on.server.close()


def test_connections_that_ended_while_nobody_used_them_cost_nothing(store: Store) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "k", b"{}")], NOW)
    assert store.on.server._idle
    end_all(store.on.server)
    assert store.get("users", "k") == b"{}"
    store.on.server.close()
