"""Lag is told in operations and seconds, unknown is never 0, and a wedge is named after half a minute."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.actors.session.progress import NO_PROGRESS, STALLED_SECONDS, Hearing, Progress, Telling
from entgldb.actors.session.session import NO_STATUS
from entgldb.messages.model import Vector
from entgldb.messages.wire import Heartbeat
from tests.support.fake_context import FakeContext
from tests.unit.actors.session.list_log import ME, THIRD, YOU, ListLog
from tests.unit.actors.session.test_session import Bench


class Rig:
    """The watchdog of one session, looked at every two seconds."""

    def __init__(self) -> None:
        self.log = ListLog()
        self.log.add(ME)
        self.progress = Progress(self.log)
        self.ctx = FakeContext()
        self.theirs: dict[str, int] | None = {ME: 1}
        self.held: dict[str, int] = {}

    def wait(self, seconds: float) -> list[str]:
        """Names of the alarms that stand then."""
        end = self.ctx.monotonic() + seconds
        while self.ctx.monotonic() < end:
            self.ctx.run(2.0)
            self.progress.look(self.log.vector(), self.theirs, self.theirs, self.held, "lan-2", self.ctx)
        alarms: list[Any] = self.progress.alarms("lan-2", self.ctx)
        assert {one["code"] for one in alarms} <= {NO_PROGRESS}
        return [one["subject"] for one in alarms]


def test_a_peer_from_which_nothing_comes_is_named_once_and_until_something_moves() -> None:
    rig = Rig()
    rig.theirs = {ME: 1, YOU: 5}
    assert rig.wait(STALLED_SECONDS - 2) == []
    assert rig.wait(STALLED_SECONDS) == ["lan-2 in"]
    assert len(rig.ctx.lines) == 1
    rig.log.add(YOU)
    assert rig.wait(2) == []
    assert rig.wait(STALLED_SECONDS + 2) == ["lan-2 in"]
    rig.theirs = {ME: 1, YOU: 1}
    assert rig.wait(2) == []


def test_a_peer_that_takes_nothing_is_named() -> None:
    rig = Rig()
    rig.theirs = {}
    assert rig.wait(STALLED_SECONDS + 4) == ["lan-2 out"]
    rig.theirs = {ME: 1}
    assert rig.wait(2) == []


def test_what_has_a_name_of_its_own_is_no_wedge(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.theirs, rig.held = {YOU: 3, THIRD: 2}, {ME: 1}
    monkeypatch.setattr(rig.log, "held_back", {YOU: 3})
    monkeypatch.setattr(rig.log, "forked", lambda: {THIRD})
    assert rig.wait(100) == []
    rig.held = {}
    monkeypatch.setattr(rig.log, "floors", lambda: {ME: 1})
    assert rig.wait(100) == []
    monkeypatch.setattr(rig.log, "floors", dict)
    assert rig.wait(100) == ["lan-2 out"]


def test_steady_writes_on_both_sides_are_movement() -> None:
    rig = Rig()
    rig.theirs = {ME: 1, YOU: 2}
    for n in range(40):
        rig.log.add(YOU)
        rig.log.add(ME)
        rig.theirs = {ME: n + 1, YOU: n + 3}
        assert rig.wait(2) == []


def test_a_snapshot_that_comes_in_is_movement() -> None:
    rig = Rig()
    rig.theirs = {ME: 1, YOU: 5}
    for _ in range(50):
        rig.progress.touch(24, rig.ctx)
        assert rig.wait(2) == []
        rig.progress.touch(7, rig.ctx)
    assert rig.wait(STALLED_SECONDS + 4) == ["lan-2 in"]


def test_seconds_are_those_of_the_oldest_operation_and_null_while_unknown() -> None:
    rig = Rig()
    mine: Vector = rig.log.vector()
    assert rig.progress.seconds_in(mine, None, rig.ctx) is None
    assert rig.progress.seconds_out(None, None, rig.ctx) is None
    assert rig.progress.seconds_in(mine, 0, rig.ctx) == 0.0
    rig.theirs = {ME: 1, YOU: 1}
    rig.wait(2)
    rig.theirs = {ME: 1, YOU: 4}
    rig.wait(10)
    assert rig.progress.seconds_in(mine, 4, rig.ctx) == 10.0
    rig.log.add(YOU)
    rig.wait(2)
    assert rig.progress.seconds_in(rig.log.vector(), 3, rig.ctx) == 10.0


def test_a_session_tells_its_lag_and_its_alarm() -> None:
    bench = Bench()
    assert bench.session.status(bench.ctx) == NO_STATUS
    bench.session.start(bench.ctx)
    for _ in range(40):
        bench.session.receive(Heartbeat(0, 0, 0, None, {YOU: (3, b"h")}, {}, told=2), bench.ctx)
        bench.ctx.run(1.0)
        bench.session.beat(bench.ctx, None)
    told = bench.session.status(bench.ctx)
    assert told["behind_in"] == 3
    assert told["seconds_in"] >= STALLED_SECONDS
    assert [one["code"] for one in bench.session.alarms(bench.ctx)] == [NO_PROGRESS]


def test_what_was_told_is_told_again_by_its_number_alone_until_it_changes_or_is_missed() -> None:
    telling, vector = Telling(), {ME: (1, b"h")}
    assert telling.is_new({}, {})
    telling.tell(vector, {})
    assert not telling.is_new(dict(vector), {})
    assert telling.is_new(vector, {YOU: 1})
    assert telling.is_new({ME: (2, b"h")}, {})
    telling.again = True
    assert telling.is_new(vector, {})
    telling.tell(vector, {})
    assert (telling.number, telling.is_new(vector, {})) == (2, False)


def test_a_number_means_what_came_with_it_and_nothing_where_that_is_missing() -> None:
    hearing, one, two = Hearing(), {ME: (1, b"h")}, {ME: (2, b"h")}
    assert hearing.take(1, one, {})
    assert hearing.take(1, None, None)
    assert hearing.known == (one, {})
    assert not hearing.take(2, None, None)
    assert hearing.missed
    assert hearing.take(3, two, {YOU: 4})
    assert (hearing.missed, hearing.known) == (False, (two, {YOU: 4}))
    # it was overtaken on its way
    assert not hearing.take(2, one, {})
    assert (hearing.missed, hearing.known) == (False, (two, {YOU: 4}))


def test_on_an_idle_link_a_vector_goes_once_and_again_to_a_peer_that_has_missed_it() -> None:
    bench = Bench().open({YOU: (1, b"h")})
    bench.sent.clear()
    sent = []
    for again in (False, False, True, False):
        bench.session.receive(Heartbeat(0, 0, 0, told=1, again=again), bench.ctx)
        bench.session.beat_now(bench.ctx, None)
        sent += [(one.told, one.vector) for one in bench.take(Heartbeat)]  # type: ignore[attr-defined]  # Heartbeat only
    assert sent == [(1, None), (1, None), (2, {}), (2, None)]


def test_a_peer_that_has_missed_a_vector_says_so_until_it_has_come() -> None:
    bench = Bench().open()
    said = []
    for beat in (
        Heartbeat(0, 0, 0, told=2),
        Heartbeat(0, 0, 0),
        Heartbeat(0, 0, 0, vector={}, held={}, told=3),
    ):
        bench.session.receive(beat, bench.ctx)
        bench.session.beat(bench.ctx, None)
        said += [one.again for one in bench.take(Heartbeat)]  # type: ignore[attr-defined]  # Heartbeat only
    assert said == [True, True, False]
