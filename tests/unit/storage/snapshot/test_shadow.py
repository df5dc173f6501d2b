"""Where SQLite lets nobody edit a schema, as on some systems, a snapshot is merged in one step."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from entgldb.storage.snapshot.shadow import Shadow
from tests.unit.storage.snapshot.snapshots import in_steps, send
from tests.unit.storage.snapshot.test_snapshots import NOW, Side


def test_a_merge_that_was_under_way_begins_anew_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    in_steps(monkeypatch)
    one, two = Side("one"), Side("two")
    for n in range(5):
        one.put(f"k{n}", "x")
    steps: list[str] = []

    def forbid() -> None:
        steps.append("step")
        monkeypatch.setattr(Shadow, "is_allowed", lambda _: False)

    assert not send(one.store, two.store, NOW, between=forbid).refused
    assert steps, "it was begun in steps"
    assert two.store.documents("users") == one.store.documents("users")
    steps.clear()
    one.put("k5", "x")
    assert not send(one.store, two.store, NOW, between=forbid).refused
    assert not steps
    assert two.store.documents("users") == one.store.documents("users")


def test_what_sqlite_allows_is_asked_of_it() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        shadow = Shadow(connection)
        assert shadow.is_allowed()
        connection.set_authorizer(_refuse)
        assert not shadow.is_allowed()
        connection.set_authorizer(None)
        with pytest.raises(sqlite3.OperationalError, match="may not be modified"):
            connection.execute("DELETE FROM sqlite_master")


def _refuse(action: int, table: str | None, *_: object) -> int:
    editing = action == sqlite3.SQLITE_UPDATE and str(table).startswith("sqlite_")
    return sqlite3.SQLITE_DENY if editing else sqlite3.SQLITE_OK
