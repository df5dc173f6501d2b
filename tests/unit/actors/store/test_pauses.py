"""Pauses of a node's links: kept over restarts, and never longer than they were meant, whatever the clock."""

from __future__ import annotations

import pytest

from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.store.gates.pauses import NOTE_SECONDS
from entgldb.messages.administration import PauseSync
from entgldb.messages.client import Refused, Report, Status
from entgldb.messages.limits import PAUSE_SECONDS_MAX
from entgldb.messages.local.pauses import PausesChanged
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_store_keeper import NOW, Bench


def paused(ctx: FakeContext) -> list[str]:
    """The kinds that node was last told of."""
    return [one.what for one in ctx.take(PausesChanged, "node")[-1].pauses]


def begin(bench: Bench, seconds: float, what: str = "lan") -> None:
    assert isinstance(bench.ctx.ask(PauseSync(what, True, seconds)), Report)


def again(bench: Bench, wall_ms: int) -> FakeContext:
    """The store is started anew, at this time of its wall clock."""
    ctx = FakeContext(wall_ms=wall_ms)
    ctx.behaviour = StoreKeeper(bench.keeper.settings, bench.store, bench.keeper.secrets)
    ctx.behaviour.start(ctx)
    return ctx


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.ctx.behaviour = made.keeper
    made.keeper.start(made.ctx)
    assert paused(made.ctx) == []
    return made


def test_it_holds_until_it_is_ended(bench: Bench) -> None:
    begin(bench, 0.0)
    assert paused(bench.ctx) == ["lan"]
    begin(bench, 0.0, "cloud")
    assert paused(bench.ctx) == ["cloud", "lan"]
    ctx = again(bench, NOW + 10 * 86_400_000)
    ctx.run(7 * 86_400.0)
    assert paused(ctx) == ["cloud", "lan"]
    answer = ctx.ask(PauseSync("lan", False))
    assert isinstance(answer, Report)
    assert [row["what"] for row in answer.body["pauses"]] == ["cloud"]
    assert paused(again(bench, NOW)) == ["cloud"]


def test_it_ends_by_itself_and_status_tells_how_much_is_left(bench: Bench) -> None:
    begin(bench, 100.0)
    bench.ctx.run(99.0)
    answer = bench.ctx.ask(Status())
    assert isinstance(answer, Report)
    (row,) = answer.body["pauses"]
    assert (row["what"], row["since_ms"], row["until_ms"], row["left"]) == ("lan", NOW, NOW + 100_000, 1.0)
    bench.ctx.run(1.1)
    assert paused(bench.ctx) == []
    assert bench.store.pauses() == {}


@pytest.mark.parametrize(
    ("step_ms", "left"),
    [(0, 900.0), (-10 * 365 * 86_400_000, 900.0), (800_000, 100.0), (900_000, 0.0)],
    ids=["none", "back by ten years", "ahead", "ahead, beyond its end"],
)
def test_over_a_restart_a_clock_that_was_set_makes_it_no_longer(
    bench: Bench, step_ms: int, left: float
) -> None:
    begin(bench, 1000.0)
    bench.ctx.run(100.0 + NOTE_SECONDS / 2)
    done = bench.store.pauses()["lan"]["left"]
    assert 1000.0 - 130.0 <= done <= 1000.0 - 100.0 + 21.0
    ctx = again(bench, NOW + 100_000 + step_ms)
    assert paused(ctx) == (["lan"] if left else [])
    ctx.run(left + NOTE_SECONDS)
    if left:
        assert paused(ctx) == []


def test_a_board_that_begins_at_1970_each_hour_comes_to_its_end(bench: Bench) -> None:
    begin(bench, 7200.0)
    ctx, lived = bench.ctx, 0
    while bench.store.pauses():
        ctx.run(3600.0)
        lived += 1
        ctx = again(bench, 0)
    assert lived <= 3


@pytest.mark.parametrize(
    "order",
    [PauseSync("wan", True), PauseSync("lan", True, -1.0), PauseSync("lan", True, PAUSE_SECONDS_MAX + 1)],
)
def test_what_is_no_pause_is_refused(bench: Bench, order: PauseSync) -> None:
    assert isinstance(bench.ctx.ask(order), Refused)
    assert bench.store.pauses() == {}


def test_a_cloud_node_has_clients_to_pause_and_no_lan() -> None:
    bench = Bench("c1", "cloud")
    bench.ctx.behaviour = bench.keeper
    answer = bench.ctx.ask(PauseSync("lan", True))
    assert isinstance(answer, Refused)
    assert answer.text == "lan is nothing that this node can pause; it has cloud"
    assert isinstance(bench.ctx.ask(PauseSync("cloud", True)), Report)


def test_a_pause_that_cannot_be_kept_does_not_begin(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from entgldb.messages.errors import EntglError, ErrorCode

    def full(pauses: object) -> None:
        raise EntglError("no room", code=ErrorCode.DISK_FULL)

    monkeypatch.setattr(bench.store, "keep_pauses", full)
    assert isinstance(bench.ctx.ask(PauseSync("lan", True)), Refused)
    assert bench.ctx.take(PausesChanged) == []
