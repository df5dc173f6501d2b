"""Wrong clocks: how heartbeats show them, when a node stops writing, and when it goes on."""

from __future__ import annotations

from random import Random

import pytest

from entgldb.actors.session.clock_watch import READINGS, ClockWatch, PeerClock, Steps
from entgldb.actors.store.gates.clock_gate import VERDICT_SECONDS
from entgldb.messages import client
from entgldb.messages.administration import AcceptClock, ResetClock
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.actors import ApplyInitialPeers, ClockJudged, InitialPeersApplied, ReleaseHeld
from entgldb.messages.local.members import RememberMembers
from entgldb.messages.wire import Member
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_disk_gate import code
from tests.unit.actors.store.test_store_keeper import NOW, Bench, batch, foreign

FAR = 10 * DRIFT_MS_MAX


class Jumping(FakeContext):
    """A context whose wall clock can be set."""

    jump = 0
    slept = 0
    """Seconds for which the machine was suspended: its monotonic clock stood still meanwhile."""

    def now_ms(self) -> int:
        return super().now_ms() + self.jump + 1000 * self.slept

    def since_boot(self) -> float:
        return super().since_boot() + self.slept


class Cluster:
    """Peers whose heartbeats arrive after a way of some length."""

    def __init__(self, *offsets: int, way_ms: int = 0) -> None:
        self.ctx = Jumping()
        self.offsets = dict(enumerate(offsets))
        self.clocks = {number: PeerClock() for number in self.offsets}
        self.watch = ClockWatch()
        self.way_ms = way_ms
        self.random = Random(1)

    def beat(self, times: int = READINGS) -> bool:
        """So many heartbeats; whether our clock is taken to be off."""
        for _ in range(times):
            self.ctx.run(1.0)
            for number, clock in self.clocks.items():
                if number in self.offsets:
                    true = FakeContext.now_ms(self.ctx) + self.offsets[number]
                    clock.said(true - self.random.randint(0, self.way_ms), self.ctx)
            self.watch.look(self.clocks.values(), self.ctx)
        return self.watch.off

    def said(self) -> list[ClockJudged]:
        return self.ctx.take(ClockJudged, "store")


def test_a_machine_that_wakes_far_from_its_peers_takes_writes() -> None:
    cluster = Cluster(0, 0, 0)
    assert not cluster.beat()
    cluster.ctx.slept = 3600
    cluster.watch.look(cluster.clocks.values(), cluster.ctx)
    assert not cluster.watch.off
    cluster.watch.look([], cluster.ctx)  # the links of before are dead, and nobody else is there
    assert (cluster.watch.off, cluster.said()) == (False, [])


@pytest.mark.parametrize(
    ("offsets", "off"),
    [
        ((), False),
        ((FAR,), False),
        ((FAR, FAR), True),
        ((FAR, 0), False),
        ((FAR, -FAR), False),
        ((-FAR, -FAR, 0), True),
        ((FAR, FAR, 0, 0), False),
        ((FAR, FAR, FAR, 0, 0), True),
        ((DRIFT_MS_MAX, DRIFT_MS_MAX), False),
        ((DRIFT_MS_MAX + 1, DRIFT_MS_MAX + 1), True),
    ],
)
def test_the_clock_is_off_when_most_peers_and_at_least_two_agree_that_it_is(
    offsets: tuple[int, ...], off: bool
) -> None:
    cluster = Cluster(*offsets)
    assert cluster.beat() is off
    assert bool(cluster.said()) is off


def test_a_long_way_does_not_make_a_peer_look_behind() -> None:
    cluster = Cluster(0, way_ms=2 * DRIFT_MS_MAX)
    cluster.way_ms = 0
    cluster.beat(1)
    cluster.way_ms = 2 * DRIFT_MS_MAX
    cluster.beat(READINGS - 1)
    assert cluster.clocks[0].offset_ms(cluster.ctx) == 0


def test_a_jump_of_our_own_is_noticed_at_once_and_told_until_it_is_mended() -> None:
    cluster = Cluster(0, 0, 5)
    assert not cluster.beat()
    cluster.ctx.jump = FAR
    assert cluster.beat(1)
    assert cluster.said() == [ClockJudged(True, -FAR, 3, 3)]
    cluster.ctx.jump = 0
    assert not cluster.beat(2)
    assert [said.off for said in cluster.said()] == [False]


def test_when_the_peers_are_gone_it_stays_wrong_until_it_is_set() -> None:
    cluster = Cluster(FAR, FAR)
    assert cluster.beat()
    cluster.clocks.clear()
    assert cluster.beat()
    cluster.ctx.jump = FAR
    assert not cluster.beat(1)


def test_a_step_of_our_own_clock_is_told_once_and_drift_is_none() -> None:
    ctx, steps = Jumping(), Steps()
    found = []
    for jump in (0, DRIFT_MS_MAX, 0, FAR, FAR, FAR - 1, -FAR):
        ctx.run(1.0)
        ctx.jump = jump
        found.append(steps.look(ctx))
    assert found == [0, 0, 0, FAR, 0, 0, -2 * FAR]


def off(bench: Bench) -> None:
    bench.ask(ClockJudged(True, -FAR, 2, 3))


def clock(bench: Bench) -> dict[str, object]:
    (report,) = bench.ask(client.Status())
    assert isinstance(report, client.Report)
    found = report.body["clock"]
    assert isinstance(found, dict)
    return found


def test_a_node_whose_clock_is_off_refuses_its_users_writes_and_takes_what_replicates() -> None:
    bench = Bench()
    request = bench.put("before")
    (done,) = bench.ask(request)
    off(bench)
    refused, again, delete = bench.ask(bench.put("a"), request, bench.put("before", None))
    assert isinstance(refused, client.Refused)
    assert (refused.code, refused.definite) == ("clock", True)
    assert "off by 600 s: 2 of 3 peers are behind" in refused.text
    assert "entgldb clock --accept" in refused.hint
    assert again == done
    assert code(delete) == "clock"
    bench.ask(batch(foreign(1), 0), ReleaseHeld(), ApplyInitialPeers((), 1))
    assert bench.store.get("users", "k0") == b"{}"
    assert bench.told(InitialPeersApplied) == []
    assert bench.keeper.counts["clock"] == 3
    assert (clock(bench)["state"], clock(bench)["offset_ms"]) == ("off", -FAR)
    bench.ask(ClockJudged(False, 0, 0, 3))
    assert code(bench.ask(bench.put("a"))[0]) == "CommitDone"


def test_an_operator_may_have_it_go_on_until_it_agrees_again() -> None:
    bench = Bench()
    (nothing,) = bench.ask(AcceptClock())
    assert code(nothing) == "invalid"
    off(bench)
    assert code(bench.ask(AcceptClock())[0]) == "Done"
    off(bench)
    assert code(bench.ask(bench.put("a"))[0]) == "CommitDone"
    assert clock(bench)["state"] == "accepted"
    bench.ask(ClockJudged(False, 0, 0, 3))
    off(bench)
    assert code(bench.ask(bench.put("b"))[0]) == "clock"


def test_after_its_clock_ran_ahead_a_node_goes_on_with_right_stamps_when_it_is_told_to() -> None:
    bench = Bench()
    bench.ctx._wall_ms += FAR
    bench.ask(bench.put("ahead"))
    bench.ctx._wall_ms -= FAR
    bench.ask(RememberMembers((Member("n2/" + "2" * 32, 1, NOW, {}, NOW),)))
    assert (clock(bench)["ahead_ms"], clock(bench)["behind_mark_ms"]) == (FAR, FAR)
    off(bench)
    assert code(bench.ask(ResetClock(bench.request()))[0]) == "clock"
    bench.ask(ClockJudged(False, 0, 0, 3))
    (done,) = bench.ask(ResetClock(bench.request()))
    assert isinstance(done, client.Report)
    assert done.body == {"origin": bench.store.origin, "written": 1, "held": 0}
    assert clock(bench)["ahead_ms"] == clock(bench)["behind_mark_ms"] == 0
    assert bench.store.get("users", "ahead") == b"{}"
    assert code(bench.ask(ResetClock(bench.request()))[0]) == "invalid"


def test_what_a_clock_shows_that_is_known_to_be_off_has_no_voice() -> None:
    bench = Bench()
    bench.ask(bench.put("a"))
    off(bench)
    bench.ctx._wall_ms += FAR
    bench.ask(ReleaseHeld())
    assert bench.store.shown_ms() == NOW
    bench.ask(ClockJudged(False, 0, 0, 3))
    bench.ask(ReleaseHeld())
    assert bench.store.shown_ms() == NOW + FAR


def test_a_verdict_that_nobody_repeats_is_forgotten() -> None:
    bench = Bench()
    bench.ctx.behaviour = bench.keeper
    off(bench)
    bench.ctx.run(VERDICT_SECONDS + 1)
    assert code(bench.ask(bench.put("a"))[0]) == "CommitDone"
