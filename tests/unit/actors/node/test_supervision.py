"""A child that does not move is ended or left alone, and one that dies too often is told of."""

from __future__ import annotations

import pytest

from entgldb.actors.node.behaviour import LOOK_SECONDS
from entgldb.actors.node.supervision import (
    BEAT_SECONDS,
    HANG_SECONDS,
    HEALTHY_AFTER,
    LATE_SECONDS,
    RESTARTS_MAX,
    START_SECONDS_MAX,
    STEP_SECONDS_MAX,
    Child,
    Life,
    Watched,
)
from entgldb.messages.client import Report, Status
from entgldb.messages.local.actors import ChildExited, Configure
from tests.unit.actors.node.node_rig import Rig

PATIENCE = BEAT_SECONDS + HANG_SECONDS + LOOK_SECONDS


def alarms(rig: Rig) -> list[tuple[str, str]]:
    report = rig.ask(Status())
    assert isinstance(report, Report)
    found = report.body["alarms"]
    assert isinstance(found, list)
    return [(str(one["code"]), str(one["subject"])) for one in found if isinstance(one, dict)]


@pytest.mark.parametrize("name", ["store", "oplog", "sync", "election", "gateway"])
def test_an_actor_that_is_stopped_is_ended_and_started_anew(name: str) -> None:
    rig = Rig().all_ready()
    rig.run(3.0)
    rig.told.clear()
    rig.lives[name] = Life(7, "", "T")
    rig.run(HANG_SECONDS)
    assert rig.killed == []
    rig.run(PATIENCE - HANG_SECONDS + 0.1)
    assert rig.killed == [name]
    assert rig.spawned[-1] == name
    assert rig.configured() == [name]
    assert any(f"{name} is stopped and has not moved for" in line for line in rig.lines)
    assert rig.node.counts["hung"] == 1


def test_a_step_that_was_named_does_not_hide_that_an_actor_is_stopped() -> None:
    rig = Rig().all_ready()
    rig.lives["store"] = Life(7, "a commit", "t")
    rig.run(PATIENCE + LOOK_SECONDS)
    assert rig.killed == ["store"]


@pytest.mark.parametrize(
    ("life", "awaited"), [(Life(7, "", "D"), "the disk"), (Life(7, "a commit", "R"), "a commit")]
)
def test_an_actor_held_up_by_the_disk_or_a_named_step_is_left_alone_and_told_of(
    life: Life, awaited: str
) -> None:
    rig = Rig().all_ready()
    rig.run(3.0)
    rig.lives["store"] = life
    rig.run(600.0)
    assert rig.killed == []
    assert alarms(rig) == [("held-up", "store")]
    assert f"store has been waiting for {awaited}" in str(rig.node._alarms.report())
    assert not any("held-up" in line for line in rig.lines)  # the log may be on the disk that does not answer
    del rig.lives["store"]
    rig.run(LOOK_SECONDS)
    assert alarms(rig) == []


def test_a_named_step_may_not_last_for_ever() -> None:
    child, now, life = Child(), 0.0, Life(7, "a commit", "S")
    child.begin(now)
    found = ""
    while not found:
        now += LOOK_SECONDS
        assert now < STEP_SECONDS_MAX + PATIENCE
        found = child.hangs(life, now)
    assert now > STEP_SECONDS_MAX
    assert "one step (a commit)" in found


def test_an_actor_that_sleeps_where_it_should_turn_is_ended() -> None:
    rig = Rig().all_ready()
    rig.lives["oplog"] = Life(7, "", "S", 3.0)
    rig.run(PATIENCE + LOOK_SECONDS)
    assert rig.killed == ["oplog"]


def test_an_actor_that_goes_round_in_circles_is_ended_and_one_without_processor_time_is_not() -> None:
    busy, starved = Watched(), Watched()
    for one in (busy, starved):
        one.begin(0.0)
    said: list[str] = []
    for now in range(1, 60):
        said.append(busy.hangs(Life(7, "", "R", now * 0.5), float(now)))
        assert starved.hangs(Life(7, "", "R", now * 0.01), float(now)) == ""
    first = next(at for at, text in enumerate(said) if text)
    assert said[first].startswith("goes round in circles")
    assert HANG_SECONDS / 0.5 <= first + 1 <= HANG_SECONDS / 0.5 + 2


def test_a_supervisor_that_was_held_up_itself_judges_nobody_by_that_time() -> None:
    child = Watched()
    child.begin(0.0)
    assert child.hangs(Life(7, "", "S", 1.0), 1.0) == ""
    assert child.hangs(Life(7, "", "T", 1.0), 1.0 + 100 * LATE_SECONDS) == ""
    assert child.hangs(Life(8, "", "S", 1.0), 2.0 + 100 * LATE_SECONDS) == ""


def test_an_actor_that_never_says_that_it_serves_is_started_anew() -> None:
    rig = Rig()
    for name in ("store", "oplog", "election", "gateway"):
        rig.ready(name)
    rig.run(START_SECONDS_MAX - LOOK_SECONDS)
    assert rig.killed == []
    rig.run(2 * LOOK_SECONDS)
    assert rig.killed == ["sync"]
    assert [m.sync for m in rig.take(Configure, "sync")][1:] == [rig.node.settings.sync]


@pytest.mark.parametrize("above", ["launcher", "admin"])
def test_a_process_above_the_node_actor_that_is_stopped_is_told_of_until_it_goes_on(above: str) -> None:
    rig = Rig().all_ready()
    rig.lives[above] = Life(0, "", "T")
    rig.run(HANG_SECONDS - LOOK_SECONDS)
    assert alarms(rig) == []
    rig.run(3 * LOOK_SECONDS)
    assert alarms(rig) == [("held-up", above)]
    assert f"{above} has been stopped for" in str(rig.node._alarms.report())
    for life in (Life(0, "", "S"), Life()):
        rig.lives[above] = life
        rig.run(LOOK_SECONDS)
        assert alarms(rig) == []
    assert rig.killed == []


def test_a_long_start_is_no_fault() -> None:
    rig = Rig()
    rig.lives["store"] = Life(1, "its start", "R", 600.0)
    rig.run(600.0)
    assert rig.killed == []
    assert alarms(rig) == [("held-up", "store")]


@pytest.mark.parametrize("looks", [[1.0, 61.0], [float(second) for second in range(1, 41)]])
def test_a_start_that_was_held_up_or_took_long_has_its_time_from_its_end_on(looks: list[float]) -> None:
    """The whole node was stopped for a minute; or the file was looked through for forty seconds."""
    child = Child()
    child.begin(0.0)
    for now in looks:
        assert child.hangs(Life(1, "its start", "R", now), now) == ""
    ended = int(looks[-1]) + 1
    for now in range(ended, ended + int(START_SECONDS_MAX) - 1):
        assert child.hangs(Life(now, "", "S", 60.0), float(now)) == ""
    assert "does not serve" in child.hangs(Life(2000, "", "S", 60.0), ended + START_SECONDS_MAX)


def test_one_that_is_dead_and_waits_to_be_started_is_not_ended() -> None:
    child = Child()
    child.begin(0.0)
    child.serves(7, {}, 0.0)
    for now in range(1, int(START_SECONDS_MAX) + 2):
        assert child.hangs(Life(now, "", "S", 0.0), float(now)) == ""
    child.died(START_SECONDS_MAX + 1.5)
    assert child.hangs(Life(int(START_SECONDS_MAX) + 1, "", "", 0.0), START_SECONDS_MAX + 2.0) == ""


def test_one_that_dies_too_often_is_told_as_degraded_while_the_others_go_on() -> None:
    rig = Rig().all_ready()
    for deaths in range(1, RESTARTS_MAX + 2):
        assert alarms(rig) == []
        rig.hand(ChildExited("gateway"))
        rig.run(5.0)
        rig.ready("gateway")
        assert rig.spawned.count("gateway") == deaths + 1
    assert alarms(rig) == [("degraded", "gateway")]
    report = rig.ask(Status())
    assert isinstance(report, Report)
    assert report.body["state"] == "degraded"
    assert rig.spawned.count("store") == 1
    rig.run(HEALTHY_AFTER + LOOK_SECONDS)
    assert alarms(rig) == []
    report = rig.ask(Status())
    assert isinstance(report, Report)
    assert report.body["state"] == "ok"


def test_deaths_that_are_far_apart_degrade_nothing() -> None:
    rig = Rig().all_ready()
    for _ in range(3 * RESTARTS_MAX):
        rig.hand(ChildExited("gateway"))
        rig.run(13.0)
        rig.ready("gateway")
        assert alarms(rig) == []


def test_nobody_is_ended_for_hanging_while_the_node_stops() -> None:
    rig = Rig().all_ready()
    rig.node._stopping = True
    rig.lives["store"] = Life(7, "", "T")
    rig.run(2 * PATIENCE)
    assert rig.killed == []
