"""Batches in which many entries cannot be merged: each is set aside alone, and the cost is linear."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import COLLECTIONS, Entry
from entgldb.storage.file.state import State
from entgldb.storage.log.apply import Applier
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def made(name: str) -> Store:
    return Store.memory(name, name.encode(), NOW)


def write(store: Store, number: int, *writes: Write, system: bool = False) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, number), writes, NOW, system=system)


def sync(one: Store, other: Store, first: int) -> dict[str, int]:
    with other.group():
        done = other.apply([Entry(row.header, row.body) for row in one.rows(first, 500)], NOW)
    assert done.refused == ""
    return dict(done.counts)


def pair() -> tuple[Store, Store]:
    """Two nodes, the second of which cannot read one of its rows any more."""
    a, b = made("a"), made("b")
    write(a, 1, Write(COLLECTIONS, "c", rule_document("c", "merge")), system=True)
    write(a, 2, Write("c", "bad", b'{"n":0}'), Write("c", "good", b'{"n":0}'))
    sync(a, b, 1)
    b.connection.execute("UPDATE _entgldb_documents SET stamps = x'c1' WHERE key = 'bad'")
    return a, b


@pytest.mark.parametrize("grouped", [False, True])
def test_a_batch_of_bad_entries_is_done_twice_at_most(
    monkeypatch: pytest.MonkeyPatch, *, grouped: bool
) -> None:
    a, b = pair()
    first = a.last_lsn() + 1
    writes = [Write("c", key, json.dumps({"n": n}).encode()) for n in range(1, 61) for key in ("bad", "good")]
    for number, group in enumerate([writes] if grouped else [[one] for one in writes]):
        write(a, 10 + number, *group)
    merged = [0]
    merge = Applier.merge

    def counted(self: Applier, *arguments: Any) -> None:
        merged[0] += 1
        merge(self, *arguments)

    monkeypatch.setattr(Applier, "merge", counted)
    assert sync(a, b, first)["unfit"] == 60
    assert merged[0] <= 2 * len(writes)
    good = b.get("c", "good")
    assert good is not None
    assert json.loads(good) == {"n": 60}
    assert b.vector() == a.vector()
    assert b.status()["unfit"] == 60


def test_nothing_of_what_was_set_aside_is_left_in_memory_or_file() -> None:
    a, b = pair()
    first = a.last_lsn() + 1
    for number in range(10, 14):
        write(a, number, Write("c", "good", b'{"n":%d}' % number), Write("c", "bad", b'{"n":%d}' % number))
    sync(a, b, first)
    kept = State.load(b.connection)
    assert (kept.documents, kept.conflicts, kept.unfit) == (
        b.state.documents,
        b.state.conflicts,
        b.state.unfit,
    )
    assert (kept.origins, kept.lsn) == (b.state.origins, b.state.lsn)
    applied = b.connection.execute(
        "SELECT key, applied, count(*) FROM _entgldb_oplog WHERE collection = 'c' AND lsn >= ? GROUP BY 1, 2",
        (first,),
    ).fetchall()
    assert applied == [("bad", 2, 4), ("good", 1, 4)]
