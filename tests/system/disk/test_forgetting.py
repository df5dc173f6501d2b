"""Real nodes forget what everybody has, keep it for who is away, and end with a small file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.administration import Compact
from entgldb.messages.client import Commit, Write
from tests.system.support.processes import until

pytestmark = pytest.mark.slow
HOURS = 0.0003
"""About a second."""
SETTINGS = {"retention": {"hours": HOURS}, "sync": {"interval": 0.2}}
BATCH = 500
WRITES = int(os.environ.get("ENTGLDB_FORGOTTEN", "20000"))
"""A soak has 100,000."""


@pytest.fixture
def playground(tmp_path: Any) -> Iterator[Playground]:
    with Playground(tmp_path, settings=SETTINGS) as made:
        made.make_lan(2)
        made.start()
        yield made


def forgotten(member: Member) -> bool:
    return bool(member.db.status("store")["oplog_entries"] == 0 and tombstones(member) == 0)


def tombstones(member: Member) -> int:
    connection = member.db.documents._connection
    (found,) = connection.execute(
        "SELECT count(*) FROM _entgldb_documents"
        " WHERE body IS NULL AND substr(collection, 1, 8) <> '_system_'"
    ).fetchone()
    return int(found)


def delete_all(member: Member, keys: list[str]) -> None:
    for first in range(0, len(keys), BATCH):
        writes = tuple(Write("things", key, None) for key in keys[first : first + BATCH])
        member.db.request(Commit(member.db.next_request(), writes))


@pytest.mark.timeout(180)
def test_many_writes_all_deleted_leave_a_small_file(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = playground.lan
    keys = [f"k{number:06}" for number in range(WRITES)]
    one.db["things"].put_many({key: {"number": 1, "text": "some words to fill it"} for key in keys})
    until(lambda: two.db["things"].count() == len(keys), 60.0, "the other node has all")
    delete_all(one, keys)
    until(lambda: two.db["things"].count() == 0, 60.0, "the other node has all deletes")
    for member in playground.lan:
        until(lambda member=member: forgotten(member), 60.0, "no oplog entry, no tombstone")  # type: ignore[misc]  # bound now
        before = (member.directory / "entgldb.db").stat().st_size
        member.db.ask("oplog", Compact(), timeout=60.0)
        after = (member.directory / "entgldb.db").stat().st_size
        with capsys.disabled():
            print(f"\n{member.node_id}: {before:,} bytes, {after:,} after compact")
        assert after < before / 8
        assert tombstones(member) == 0


@pytest.mark.timeout(120)
def test_who_is_away_holds_back_and_is_named_and_nothing_deleted_comes_back(playground: Playground) -> None:
    one, two = playground.lan
    one.db["things"].put_many({f"k{number}": {"number": number} for number in range(20)})
    until(lambda: two.db["things"].count() == 20 or None, 20.0, "the other node has all")
    until(lambda: forgotten(one) or None, 30.0, "all is forgotten where everybody has it")
    two.stop()
    delete_all(one, [f"k{number}" for number in range(10)])
    until(lambda: one.db.status("oplog")["held_back_by"].get(two.node_id), 30.0, "the absent node is named")
    held = one.db.status("oplog")["held_back_by"][two.node_id]
    assert held["entries"] == 10
    assert held["tombstones"] == 10
    rows = {row.node_id: row for row in one.db.nodes.all()}
    assert rows[two.node_id].holds_back == held
    two.start()
    until(lambda: two.db["things"].count() == 10 or None, 30.0, "the deletes arrive")
    for member in playground.lan:
        until(lambda member=member: forgotten(member) or None, 60.0, "all is forgotten again")  # type: ignore[misc]  # bound now
        assert member.db["things"].count() == 10
