"""The tables that grow have parts, by tenant, where the server does not spread rows by itself."""

from __future__ import annotations

import psycopg
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.postgres import schema
from entgldb.storage.postgres.schema import PARTED, PARTS
from entgldb.storage.postgres.server import Server, server
from tests.support import postgres

NOW = 1_790_000_000_000


def test_a_tenant_is_in_one_part_which_shows_it_to_nobody_else() -> None:
    ours, theirs = postgres.open_store("a", NOW), postgres.open_store("b", NOW)
    with ours.group():
        ours.write(RequestId(b"c" * 16, 1), [Write("users", f"k{n}", b"{}") for n in range(5)], NOW)
    found = []
    with psycopg.connect(postgres.address()) as other:
        for name in (ours.on.tenant, theirs.on.tenant):
            other.execute("SELECT set_config('entgldb.tenant', %s, true)", [name])
            rows = [
                other.execute(f"SELECT count(*) FROM {table}_{number}").fetchall()[0][0]  # type: ignore[arg-type]  # no literal
                for table in PARTED
                for number in range(PARTS)
            ]
            found.append(sorted(rows))
    assert found == [[0] * (3 * PARTS - 2) + [5, 5], [0] * (3 * PARTS)]


@pytest.mark.parametrize(
    ("said", "citus", "parted"),
    [
        ("PostgreSQL 18.4 on x86_64", [], True),
        ("PostgreSQL 18.4 on x86_64", [(1,)], False),
        ("PostgreSQL 15.2-YB-2025.1", [], False),
        ("CockroachDB CCL v25.2", [], False),
    ],
)
def test_who_spreads_rows_by_itself_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, said: str, citus: list[tuple[int]], *, parted: bool
) -> None:
    asked: list[str] = []

    def alone(_: Server, sql: str) -> list[tuple[object, ...]]:
        asked.append(sql)
        return [(said,)] if "version()" in sql else list(citus)

    monkeypatch.setattr(Server, "alone", alone)
    schema._make(server(postgres.address()))
    assert ("PARTITION BY HASH (tenant)" in asked[-1]) is parted
