"""The store's own upkeep, and transactions that fail: neither costs anybody else theirs."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from entgldb.messages import client
from entgldb.messages.errors import CorruptError, EntglError, ErrorCode
from entgldb.messages.local.actors import Applied, Apply, ReleaseHeld
from entgldb.messages.local.members import NoteSelf, Prune
from entgldb.messages.model import Entry
from entgldb.messages.schema import Message
from entgldb.storage.file.state import State
from entgldb.storage.indexes.keeping import Indexes
from entgldb.storage.repair import lost_writes, salvaged
from entgldb.storage.rules.header import decode
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_store_keeper import NOW, Bench


def failing(fault: Exception) -> Any:
    def fails(*_: Any, **__: Any) -> None:
        raise fault

    return fails


@pytest.mark.parametrize(
    "fault",
    [CorruptError("a page is damaged"), sqlite3.OperationalError("table touched already exists"), KeyError()],
)
@pytest.mark.parametrize(
    ("upkeep", "method"),
    [(ReleaseHeld(), "release_held"), (Prune({}, {}, 1, 1, 0), "prune"), (ReleaseHeld(), "documents")],
)
def test_upkeep_that_fails_costs_no_client_anything(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, upkeep: Message, method: str
) -> None:
    bench = Bench()
    if method == "documents":
        monkeypatch.setattr("entgldb.actors.store.healing.tend", failing(fault))
    else:
        monkeypatch.setattr(bench.store, method, failing(fault))
    answers = bench.ask(bench.put("a"), upkeep, bench.put("b"))
    assert [type(answer) for answer in answers] == [client.CommitDone] * 2
    assert bench.store.get("users", "a") == bench.store.get("users", "b") == b"{}"


def test_an_error_in_one_request_that_sqlite_can_undo_harms_no_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    monkeypatch.setattr(Indexes, "create", failing(sqlite3.OperationalError("no such table: x")))
    good, bad, also_good = bench.ask(bench.put("a"), client.CreateIndex("users", ("f",)), bench.put("b"))
    assert isinstance(bad, client.Refused)
    assert isinstance(good, client.CommitDone)
    assert isinstance(also_good, client.CommitDone)


def batch_of(name: str, number: int) -> Apply:
    """The first entry of a node, as a batch of one and the same session."""
    other = Bench(name, seed=name.encode() * 16)
    other.ask(other.put(f"by {name}"))
    entries = tuple(Entry(row.header, row.body) for row in other.store.rows(1, 1))
    return Apply("sync", "sync:1", 0, number, entries, cloud=False)


def test_after_a_failed_commit_nothing_is_taken_behind_the_batches_it_undid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.ask(batch_of("n2", 0))
    with monkeypatch.context() as once:
        full = EntglError("the disk is full", code=ErrorCode.DISK_FULL)
        once.setattr(State, "save", failing(full))
        bench.ask(batch_of("n3", 1))
    bench.ask(batch_of("n4", 2))
    said = [message.refused for _, message in bench.told(Applied) if isinstance(message, Applied)]
    assert said == ["", "store-busy", "out-of-order"]
    assert [name.split("/")[0] for name in bench.store.vector()] == ["n2"]


def test_the_memory_is_put_back_with_the_file_when_a_commit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    ahead = Bench("n2", seed=b"\2" * 32)
    ahead.ctx = FakeContext(wall_ms=NOW + 100_000)
    ahead.ask(ahead.put("from the future"))
    held = tuple(Entry(row.header, row.body) for row in ahead.store.rows(1, 1))
    with monkeypatch.context() as once:
        once.setattr(State, "save", failing(EntglError("the disk is full", code=ErrorCode.DISK_FULL)))
        bench.ask(Apply("sync", "sync:1", 0, 0, held, cloud=False), bench.put("a"))
    assert bench.store.state == State.load(bench.store.connection)
    bench.ask(Apply("sync", "sync:1", 1, 0, held, cloud=False))
    assert bench.store.held() == {ahead.store.origin: 1}
    assert bench.store.state == State.load(bench.store.connection)


@pytest.mark.parametrize("disowned", [False, True])
def test_what_a_damaged_file_had_is_looked_for_and_written_in_steps(
    monkeypatch: pytest.MonkeyPatch, *, disowned: bool
) -> None:
    old, bench = Bench(seed=b"\2" * 32), Bench()
    old.ask(*(old.put(f"k{number}") for number in range(6)))
    rows = [
        (row.origin, row.seq, decode(row.header).hlc, row.header, row.body) for row in old.store.rows(1, 9)
    ]
    with bench.store.group():
        salvaged.carry_over(bench.store.connection, rows)
    monkeypatch.setattr(lost_writes, "PAGE_ROWS", 1)
    monkeypatch.setattr(salvaged, "STEP_PAGES", 2)
    monkeypatch.setattr(salvaged, "STEP_KEYS", 2)
    bench.store.state.disowned = disowned
    bench.ask(NoteSelf())
    steps = 1
    while bench.told(NoteSelf):
        bench.ctx.told.clear()
        bench.ask(NoteSelf())
        steps += 1
        assert steps < 20, "it goes on for ever"
    # nobody may write under an origin that others have continued
    assert bench.store.salvages() is disowned
    assert len(bench.store.documents("users")) == (0 if disowned else 6)
    assert steps == (1 if disowned else 6)
