"""Snapshots that PostgreSQL takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.postgres import connection as connections
from entgldb.storage.postgres.connection import Connection, Cursor
from entgldb.storage.postgres.server import Server
from entgldb.storage.postgres.store import Store as PostgresStore
from entgldb.storage.postgres.store import as_sqlite
from entgldb.storage.store import Store
from tests.support import postgres
from tests.support.merging import install_whole
from tests.unit.storage.snapshot.snapshots import staged

NOW = 1_790_000_000_000
DOCUMENTS = 300


@pytest.fixture
def giver() -> Iterator[Store]:
    made = Store.memory("g", b"g", NOW)
    with made.group():
        writes = [Write("users", f"k{number}", b"{}") for number in range(DOCUMENTS)]
        made.write(RequestId(b"g" * 16, 1), writes, NOW)
    yield made
    made.connection.close()


def merge(taker: Store, giver: Store) -> None:
    with staged(giver, NOW, cloud=True) as name:
        assert install_whole(taker, name, b"e" * 32, NOW, cloud=True).refused == ""


def test_no_row_that_is_staged_is_joined_with_all_others(
    monkeypatch: pytest.MonkeyPatch, giver: Store
) -> None:
    taker, plans, limits = postgres.like_memory("cloud", b"c", NOW), list[str](), set[object]()
    ask = Connection._ask

    def looked(on: Connection, *statements: tuple[str, Sequence[Any]]) -> Any:
        waiting = [(one.sql, one.given) for one in on._waiting]
        found = ask(on, *statements)
        for sql, given in [*waiting, *statements]:
            if on._held is not None and sql.count("entgldb_staged_documents") and " JOIN " in sql:
                plans.append("\n".join(row for (row,) in on._held.execute(f"EXPLAIN {sql}", given)))
                (limit,) = on._held.execute("SHOW statement_timeout").fetchone()  # type: ignore[misc]  # a row
                limits.add((limit, on._held.longer_s))
        return found

    monkeypatch.setattr(Connection, "_ask", looked)
    merge(taker, giver)
    assert len(plans) > 3
    assert [one for one in plans if "Nested Loop" in one] == []
    # each statement works at all documents: it has longer than others
    assert limits == {("10min", 600)}
    # nothing of it is kept for other groups
    with taker.group():
        held = taker.on._held
        assert held is not None
        (setting,) = held.execute("SHOW enable_nestloop").fetchone()  # type: ignore[misc]  # a row
        assert (setting, held.longer_s) == ("on", 0)


def test_two_tenants_that_merge_at_the_same_time_do_not_wait_for_one_another(
    monkeypatch: pytest.MonkeyPatch, giver: Store
) -> None:
    first = postgres.like_memory("cloud", b"c", NOW)
    with closing(Server(postgres.address())) as elsewhere:
        tenant = postgres.like_memory("cloud", b"d", NOW).on.tenant
        second = PostgresStore(as_sqlite(Connection(elsewhere, tenant)), None)
        second.serve()
        commit, done = Connection._commit, list[int]()

        def late(on: Connection, sql: str, parameters: object) -> Cursor:
            if on is first.on and on.staged is not None and not done:
                # all the work of the first is done, and it has all its locks
                done.append(0)
                merge(second, giver)
                done.append(second.status()["documents"])  # type: ignore[arg-type]
            return commit(on, sql, parameters)

        monkeypatch.setattr(Connection, "_commit", late)
        monkeypatch.setitem(connections._SPECIAL, "COMMIT", late)
        merge(first, giver)
        assert done == [0, DOCUMENTS]
    assert first.status()["documents"] == DOCUMENTS
