"""A bug or a sick disk met by one handler: everybody gets an answer, and what beats goes on beating."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from entgldb.actors.behaviour import FAILURES_MAX
from entgldb.actors.gateway.behaviour import FITNESS_SECONDS
from entgldb.actors.store.behaviour import CHECKPOINT_INTERVAL
from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import client
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.local.actors import Fitness
from entgldb.messages.settings import SyncSettings
from entgldb.storage.indexes.keeping import Indexes
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.gateway.gateway_parts import FakeLinks, Rig
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.store.test_store_keeper import Bench


class Failing:
    """Stands for a method, counts its calls and always raises."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault
        self.calls = 0

    def __call__(self, *arguments: object, **named: object) -> None:
        self.calls += 1
        raise self.fault


def test_a_bug_met_by_one_request_harms_no_neighbour_and_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    monkeypatch.setattr(Indexes, "create", Failing(KeyError("bug")))
    good, bad, also_good = bench.ask(bench.put("a"), client.CreateIndex("users", ("age",)), bench.put("b"))
    assert isinstance(bad, client.Refused)
    assert bad.code == "internal"
    assert isinstance(good, client.CommitDone)
    assert isinstance(also_good, client.CommitDone)
    assert bench.keeper.counts[Reason.HANDLER_FAILED] == 1


def test_a_transaction_that_failed_is_counted_and_refused_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(Indexes, "create", Failing(EntglError("torn", code=ErrorCode.CORRUPT)))
    answers = bench.ask(bench.put("a"), client.CreateIndex("users", ("age",)))
    assert [type(answer) for answer in answers] == [client.Refused] * 2
    assert bench.store.get("users", "a") is None
    assert bench.keeper.counts[Reason.STORE_BUSY] == 2


@pytest.mark.parametrize("word", ["disk-full", "disk-error"])
def test_a_sick_disk_is_named_to_all_it_concerns(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    bench = Bench()
    monkeypatch.setattr(Indexes, "create", Failing(EntglError("sick", code=ErrorCode(word))))
    answers = bench.ask(bench.put("a"), client.CreateIndex("users", ("age",)))
    assert [getattr(answer, "code", "") for answer in answers] == [word] * 2
    assert bench.keeper.counts == {word: 2}
    assert isinstance(bench.ask(bench.put("a"))[0], client.CommitDone)


class FailingCommit:
    """A connection whose COMMIT meets a failing fsync."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self.real.execute(statement, *arguments)


def test_a_commit_that_failed_may_have_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.store.transaction, "connection", FailingCommit(bench.store.connection))
    (answer,) = bench.ask(bench.put("a"))
    assert isinstance(answer, client.Refused)
    assert not answer.definite


def test_a_checkpoint_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    checkpoint = Failing(RuntimeError("disk I/O error"))
    monkeypatch.setattr(bench.store, "checkpoint", checkpoint)
    bench.ctx.behaviour = bench.keeper
    bench.keeper.start(bench.ctx)
    _run_failing(bench.ctx, 3 * CHECKPOINT_INTERVAL)
    assert checkpoint.calls == 3


def test_sync_beats_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = FakeContext()
    sync = Sync(
        SyncSettings("n1", "", "lan", "c", "", heartbeat_interval=1.0),
        ListLog(),
        Trusting(),
        FakeLinks(),
        None,
        NoSnapshots(),
    )
    beat = Failing(RuntimeError("bug"))
    monkeypatch.setattr(sync, "_beat", beat)
    ctx.behaviour = sync
    sync.start(ctx)
    _run_failing(ctx, 3.1)
    assert beat.calls == 3


def test_the_gateway_tells_its_fitness_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.gateway.start(rig.ctx)
    rig.ctx.take(Fitness)
    with monkeypatch.context() as patch:
        patch.setattr(rig.gateway, "_tell_fitness", Failing(RuntimeError("bug")))
        _run_failing(rig.ctx, FITNESS_SECONDS)
    rig.ctx.run(FITNESS_SECONDS)
    assert rig.ctx.take(Fitness)


def _run_failing(ctx: FakeContext, seconds: float) -> None:
    """Let time pass with the fence of a host around every handler."""
    end = ctx.monotonic() + seconds
    while (at := ctx.next_timer()) is not None and at <= end:
        try:
            ctx.run(at - ctx.monotonic())
        except RuntimeError:
            continue


def test_a_handler_of_the_store_that_fails_on_all_of_a_kind_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for times in range(FAILURES_MAX):
        assert not bench.keeper.hopeless
        monkeypatch.setattr(Indexes, "create", Failing(KeyError("bug")))
        if times == FAILURES_MAX - 2:
            bench.ask(bench.put("a"))  # that others work is no comfort
        bench.ask(client.CreateIndex("users", ("age",)))
    assert bench.keeper.hopeless
    other = Bench()
    monkeypatch.undo()
    works = Indexes.create
    for _ in range(FAILURES_MAX):
        monkeypatch.setattr(Indexes, "create", Failing(KeyError("bug")))
        other.ask(client.CreateIndex("users", ("age",)))
        monkeypatch.setattr(Indexes, "create", works)
        other.ask(client.CreateIndex("users", ("age",)))
    assert not other.keeper.hopeless


def test_a_store_whose_transactions_all_fail_by_a_bug_is_ended_and_one_with_a_full_disk_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for code, hopeless in ((ErrorCode.INTERNAL, True), (ErrorCode.DISK_FULL, False)):
        bench = Bench()
        monkeypatch.setattr(Indexes, "create", Failing(EntglError("no", code=code)))
        for _ in range(FAILURES_MAX):
            assert not bench.keeper.hopeless
            bench.ask(client.CreateIndex("users", ("age",)))
        assert bench.keeper.hopeless is hopeless


def test_a_step_that_may_take_long_is_named_before_it_begins() -> None:
    bench = Bench()
    bench.ask(bench.put("a"))
    assert bench.ctx.steps == ["a commit"]
