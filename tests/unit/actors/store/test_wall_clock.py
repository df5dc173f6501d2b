"""A leap of the wall clock hides nothing before it has lasted."""

from __future__ import annotations

import pytest

from entgldb.actors.store.gates.clock_gate import LOOK_SECONDS, ClockGate
from entgldb.actors.store.gates.wall_clock import LEAP_SECONDS, WallClock
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.actors import ClockJudged
from entgldb.storage.store import Store
from entgldb.testing import Cluster
from tests.support.fake_context import FakeContext

HOUR = 3_600_000


def set_clock(ctx: FakeContext, by_ms: int) -> None:
    ctx._wall_ms += by_ms


def passing(clock: WallClock, ctx: FakeContext, seconds: float) -> None:
    """A look every second."""
    for _ in range(int(seconds)):
        ctx._now += 1
        clock.believed_ms(ctx)


def started() -> tuple[WallClock, FakeContext]:
    clock, ctx = WallClock(), FakeContext()
    assert clock.believed_ms(ctx) == ctx.now_ms()
    return clock, ctx


@pytest.mark.parametrize("looks", [True, False])
def test_a_leap_is_believed_once_it_has_lasted(*, looks: bool) -> None:
    clock, ctx = started()
    right = ctx.now_ms()
    set_clock(ctx, 2 * HOUR)
    assert clock.believed_ms(ctx) == right
    if looks:
        passing(clock, ctx, LEAP_SECONDS - 1)
    else:
        ctx._now += LEAP_SECONDS - 1
    assert clock.believed_ms(ctx) == right + (LEAP_SECONDS - 1) * 1000
    ctx._now += 1
    assert clock.believed_ms(ctx) == ctx.now_ms() > right + 2 * HOUR


def test_a_clock_that_is_set_right_in_time_has_shown_nothing() -> None:
    clock, ctx = started()
    for ahead in (2 * HOUR, 48 * HOUR):
        set_clock(ctx, ahead)
        passing(clock, ctx, LEAP_SECONDS - 1)
        set_clock(ctx, -ahead)
        passing(clock, ctx, 3)
        assert clock.believed_ms(ctx) == ctx.now_ms()
    # each leap begins anew: two short ones are no long one, nor are two to different times
    for _ in range(2):
        set_clock(ctx, HOUR)
        passing(clock, ctx, LEAP_SECONDS - 1)
        assert clock.believed_ms(ctx) <= ctx.now_ms() - HOUR
    set_clock(ctx, -2 * HOUR)
    assert clock.believed_ms(ctx) == ctx.now_ms()


def test_a_clock_that_goes_back_for_a_while_is_believed_all_the_time() -> None:
    clock, ctx = started()
    set_clock(ctx, -HOUR)
    passing(clock, ctx, 5)
    assert clock.believed_ms(ctx) == ctx.now_ms()
    set_clock(ctx, HOUR)
    assert clock.believed_ms(ctx) == ctx.now_ms()
    # set back for good, it is a leap to come forward
    set_clock(ctx, -HOUR)
    passing(clock, ctx, LEAP_SECONDS + 1)
    set_clock(ctx, HOUR)
    assert clock.believed_ms(ctx) == ctx.now_ms() - HOUR


def test_a_clock_that_is_slewed_leaps_never() -> None:
    clock, ctx = started()
    for _ in range(100):
        ctx._now += 1
        set_clock(ctx, DRIFT_MS_MAX)
        assert clock.believed_ms(ctx) == ctx.now_ms()


def test_a_machine_that_sleeps_does_not_leap(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ctx = started()
    set_clock(ctx, HOUR)
    monkeypatch.setattr(ctx, "since_boot", lambda: ctx._now + HOUR / 1000)
    assert clock.believed_ms(ctx) == ctx.now_ms()


def test_while_peers_say_that_it_is_wrong_it_does_not_begin_to_last() -> None:
    gate, ctx = ClockGate(Store.memory("a", b"a", 0)), FakeContext()
    right = ctx.now_ms() - round(ctx._now * 1000)
    assert gate.shown(ctx) == (ctx.now_ms(), ctx.now_ms())
    set_clock(ctx, HOUR)
    assert gate.shown(ctx) == (ctx.now_ms(), ctx.now_ms() - HOUR)
    for _ in range(int(2 * LEAP_SECONDS)):
        ctx._now += 1
        gate.on_clock_judged(ClockJudged(True, -HOUR, 2, 2), ctx)
        assert gate.shown(ctx) == (0, 0)
    gate.on_clock_judged(ClockJudged(False, 0, 0, 0), ctx)
    assert gate.shown(ctx) == (ctx.now_ms(), right + round(ctx._now * 1000))


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_a_clock_that_leaps_forward_for_a_while_hides_nothing(seconds: float, nodes: int) -> None:
    with Cluster(nodes) as cluster:
        collections = [node.db["c"] for node in cluster.nodes]
        collections[0].put("k", {"n": 1}, expire_after=3600)
        cluster.settle()
        cluster.skew(-1 % nodes, 7200)
        cluster.run(seconds)
        cluster.skew(-1 % nodes, 0)
        cluster.run(LEAP_SECONDS + 10)
        # nor what is written later and lives for less than it had leapt
        collections[-1].put("later", {"n": 2}, expire_after=600)
        cluster.settle()
        shown = [[one.get(key) is not None for key in ("k", "later")] for one in collections]
        assert shown == [[True, True]] * nodes
        # nor after a start
        cluster.nodes[-1].crash()
        cluster.nodes[-1].start()
        cluster.run(LOOK_SECONDS + 1)
        assert [collections[-1].get(key) is not None for key in ("k", "later")] == [True, True]


def test_a_clock_that_keeps_the_time_to_which_it_leapt_is_believed() -> None:
    with Cluster(1) as cluster:
        node = cluster[0].db["c"]
        node.put("k", {"n": 1}, expire_after=3600)
        cluster.skew(0, 7200)
        cluster.run(LEAP_SECONDS - 1)
        assert node.get("k") == {"n": 1}
        cluster.run(LOOK_SECONDS + 2)
        assert node.get("k") is None
