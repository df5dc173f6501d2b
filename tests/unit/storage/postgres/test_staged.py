"""A snapshot that PostgreSQL takes."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.store import Store
from tests.support import postgres
from tests.support.merging import install_whole
from tests.unit.storage.snapshot.snapshots import staged

NOW = 1_790_000_000_000
DOCUMENTS = 300
_COUNTED = "SELECT reltuples FROM pg_class WHERE relname = 'entgldb_staged_documents'"


def test_the_planner_knows_how_many_rows_are_staged_before_they_are_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    giver = Store.memory("g", b"g", NOW)
    with giver.group():
        writes = [Write("users", f"k{number}", b"{}") for number in range(DOCUMENTS)]
        giver.write(RequestId(b"g" * 16, 1), writes, NOW)
    taker = postgres.like_memory("cloud", b"c", NOW)
    counted: list[Any] = []
    take = Connection._take_staged

    def looked(on: Connection) -> None:
        take(on)
        assert on._held is not None
        counted.extend(on._held.execute(_COUNTED).fetchall())

    monkeypatch.setattr(Connection, "_take_staged", looked)
    with staged(giver, NOW, cloud=True) as name:
        assert install_whole(taker, name, b"e" * 32, NOW, cloud=True).refused == ""
    assert {int(rows) for (rows,) in counted} == {DOCUMENTS}
    giver.connection.close()
