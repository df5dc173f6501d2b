"""The production host around a behaviour, with a pretended Thespian actor: fences, timers, lanes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.behaviour import FAILURES_MAX, Behaviour, Context
from entgldb.actors.host import actor as host
from entgldb.actors.host import build
from entgldb.actors.host import wire as host_wire
from entgldb.actors.host.cell import STEP_BYTES_MAX, Cell
from entgldb.actors.host.lane import Back, Lane
from entgldb.actors.host.poll import Poll
from entgldb.actors.host.wire import ANSWER, ASK, Envelope
from entgldb.actors.node.supervision import BEAT_SECONDS
from entgldb.actors.side_loop import SideLoop
from entgldb.messages import codec
from entgldb.messages.client import Done, Ping, Refused, Relay, Report, Status
from entgldb.messages.errors import ConfigError
from entgldb.messages.limits import FRAME_BYTES_MAX
from entgldb.messages.local.actors import Addresses, ChildExited, Configure, Ready, StopNow, Stopped, Tick
from entgldb.messages.schema import Channel, Message
from entgldb.messages.settings import OplogSettings
from tests.unit.actors.host.test_host_lane import taken

NODE = host_wire.address_of(1001)
PEER = host_wire.address_of(1002)
SOMEBODY = host_wire.address_of(1003)
CONFIGURE = Configure(oplog=OplogSettings("n1", "/nowhere"))


class Subject(Behaviour):
    """Does what a test needs, and notes how often."""

    name = "subject"

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0
        self.flushes = 0
        self.ticks: list[Tick] = []
        self.fail_flush = False

    def start(self, ctx: Context) -> None:
        ctx.after(2.5, Tick("later", 7))

    def on_ping(self, message: Ping, ctx: Context) -> None:
        self.pings += 1
        raise ValueError("a bug")

    def on_status(self, message: Status, ctx: Context) -> None:
        ctx.answer(ctx.asker, Report({"ok": True}))

    def on_relay(self, message: Relay, ctx: Context) -> None:
        ctx.forward(message.actor, message.payload)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        self.ticks.append(message)

    def on_done(self, message: Done, ctx: Context) -> None:
        ctx.tell("peer", Ping())

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        ctx.answer(ctx.asker, Stopped("subject"))

    def flush(self, ctx: Context) -> None:
        self.flushes += 1
        if self.fail_flush:
            raise RuntimeError("a bug in flush")


class PretendedActor:
    """The part of a Thespian actor that the host needs."""

    def __init__(self) -> None:
        self.myAddress = SOMEBODY
        self.sent: list[tuple[Any, Any]] = []

    def send(self, address: Any, message: Any) -> None:
        self.sent.append((address, message))


class Clock:
    now = 1000.0


class Rig:
    def __init__(self, behaviour: Subject, loop: SideLoop | None, clock: Clock) -> None:
        self.subject = behaviour
        self.loop = loop
        self.actor = PretendedActor()
        self.clock = clock
        self.host = host.Host("subject", self.actor)

    def receive(self, message: Message, number: int = 0, kind: bytes = ASK, sender: Any = PEER) -> None:
        self.host.receive(Envelope(kind, codec.encode(message, number)), sender)

    def said(self, kind: bytes) -> list[tuple[int, int, Message]]:
        """(port, request id, message) of all envelopes of that kind since the last call."""
        sent, self.actor.sent = self.actor.sent, []
        found = [(a, codec.decode(e.payload, Channel.LOCAL)) for a, e in sent if e.kind == kind]
        return [(host_wire.port_of(a), d.request_id, d.message) for a, d in found]

    def woken_by_thespian(self) -> None:
        self.receive(Status(), 1)

    def woken_by_itself(self) -> None:
        self.host.turn()

    def wake(self) -> float:
        """Let the time come when the next timer is due; how many seconds that took."""
        begun, self.clock.now = self.clock.now, self.host.due()
        self.host.turn()
        return self.clock.now - begun


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(host.Inherited, "directory", tmp_path)
    monkeypatch.setattr(host, "use_log", lambda log: None)
    monkeypatch.setattr(host, "name_process", lambda name: None)
    monkeypatch.setattr(host_wire, "check_listeners", lambda: None)
    subject = Subject()
    clock = Clock()
    monkeypatch.setattr(host.Host, "monotonic", lambda self: clock.now)
    made = Rig(subject, None, clock)
    monkeypatch.setattr(build, "build", lambda configure: (subject, made.loop))
    yield made
    made.host.receive(host.ActorExitRequest(), SOMEBODY)


@pytest.fixture
def serving(rig: Rig) -> Rig:
    rig.receive(CONFIGURE, sender=NODE)
    ready = rig.said(ASK)
    assert ready == [(1001, 0, Ready("subject", os.getpid(), {"address": "1003"}))]
    return rig


def test_a_handler_that_raises_runs_once_is_counted_and_answered(serving: Rig, tmp_path: Path) -> None:
    serving.receive(Ping(), 5)
    ((port, number, answer),) = serving.said(ANSWER)
    assert (port, number) == (1002, 5)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.definite) == ("internal", False)
    assert serving.subject.pings == 1
    assert serving.subject.counts == {"handler-failed": 1}
    assert "ValueError: a bug" in (tmp_path / "log" / "entgldb.log").read_text()


def test_a_flush_that_raises_is_fenced_too(serving: Rig) -> None:
    serving.subject.fail_flush = True
    serving.receive(Status(), 5)
    assert serving.said(ANSWER) == [(1002, 5, Report({"ok": True}))]
    assert serving.subject.counts == {"handler-failed": 1}


def test_a_handler_that_fails_on_every_message_ends_its_actor(
    serving: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(host.os, "_exit", ended.append)
    for number in range(FAILURES_MAX):
        assert ended == []
        serving.receive(Status(), 1)  # that others work is no comfort
        serving.receive(Ping(), number + 2)
    assert ended == [1]
    assert "fails on all of a kind" in (tmp_path / "log" / "entgldb.log").read_text()


def test_an_idle_actor_turns_its_loop_for_its_supervisor_and_does_nothing_else(serving: Rig) -> None:
    for _ in range(5):
        turns = serving.host._cell.life(os.getpid()).turns
        assert serving.wake() <= BEAT_SECONDS
        assert serving.host._cell.life(os.getpid()).turns > turns
    assert serving.said(ASK) == []


def test_an_actor_that_has_just_turned_its_loop_is_not_woken_for_that(serving: Rig) -> None:
    serving.wake()
    now = serving.host.monotonic()
    serving.receive(Status(), 1)
    assert serving.host.due() >= now + BEAT_SECONDS


def test_a_named_step_is_seen_from_outside_until_it_ends(rig: Rig) -> None:
    cell = rig.host._cell
    seen: list[str] = []
    rig.subject.start = lambda ctx: seen.append(cell.life(os.getpid()).step)  # type: ignore[method-assign]  # looks from within
    rig.receive(CONFIGURE, sender=NODE)
    assert seen == ["its start"]
    life = cell.life(os.getpid())
    assert (life.step, life.state) == ("", "R")
    cell.busy("x" * 200)
    assert cell.life(os.getpid()).step == "x" * STEP_BYTES_MAX
    assert cell.life(2**22 + 1).state == ""


def test_a_cell_is_shared_with_what_is_forked() -> None:
    cell = Cell()
    pid = os.fork()
    if not pid:
        cell.turn()
        cell.busy("a commit")
        os._exit(0)
    os.waitpid(pid, 0)
    assert cell.life(os.getpid())[:2] == (1, "a commit")


def test_an_unknown_message_is_refused_loudly(serving: Rig) -> None:
    serving.receive(Report({}), 6)
    ((_, number, answer),) = serving.said(ANSWER)
    assert number == 6
    assert isinstance(answer, Refused)
    assert answer.code == "unsupported"
    assert serving.subject.counts == {"unknown-message": 1}


@pytest.mark.parametrize(
    ("payload", "reason"), [(b"\xc1", "malformed"), (b"\x92\xcd\xff\xff\x00", "unknown-message")]
)
def test_bytes_that_are_no_message_are_counted(serving: Rig, payload: bytes, reason: str) -> None:
    serving.host.receive(Envelope(ASK, payload), PEER)
    assert serving.subject.counts == {reason: 1}


def test_before_its_configuration_an_actor_asks_for_patience(rig: Rig) -> None:
    rig.receive(Status(), 3)
    ((_, _, answer),) = rig.said(ANSWER)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.text) == ("timeout", "subject is starting")


def test_an_actor_that_cannot_be_built_says_why_and_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(configure: Configure) -> Any:
        raise ConfigError("cluster.key is no key")

    monkeypatch.setattr(build, "build", broken)
    rig.receive(CONFIGURE, sender=NODE)
    (address, envelope), (to_itself, exit_request) = rig.actor.sent
    assert host_wire.port_of(address) == 1001
    assert codec.decode(envelope.payload, Channel.LOCAL).message == Refused("config", "cluster.key is no key")
    assert (to_itself, type(exit_request).__name__) == (SOMEBODY, "ActorExitRequest")


def test_a_timer_brings_its_message_once(serving: Rig) -> None:
    seconds = 0.0
    while not serving.subject.ticks:
        seconds += serving.wake()
    assert seconds == 2.5
    for _ in range(3):
        serving.wake()
    assert serving.subject.ticks == [Tick("later", 7)]


def test_what_is_told_to_an_absent_actor_waits_for_it_within_bounds(serving: Rig) -> None:
    for _ in range(host.PARKED_MAX + 3):
        serving.receive(Done())
    assert serving.said(ASK) == []
    serving.receive(Addresses({"peer": b"1002"}, {}), sender=NODE)
    assert serving.said(ASK) == [(1002, 0, Ping())] * host.PARKED_MAX
    assert serving.subject.counts == {"unreachable": 3}


def test_what_the_side_loop_has_is_handled_then_flushed_once(rig: Rig) -> None:
    rig.loop = SideLoop("test")
    rig.receive(CONFIGURE, sender=NODE)
    try:
        assert rig.loop.fileno() in rig.host.fds()
        before = rig.subject.flushes
        for number in range(3):
            rig.loop.post(Tick("wire", number))
        rig.host.turn()
        assert rig.subject.ticks == [Tick("wire", 0), Tick("wire", 1), Tick("wire", 2)]
        assert rig.subject.flushes == before + 1
        rig.receive(StopNow(), 9, sender=NODE)
        assert rig.said(ANSWER) == [(1001, 9, Stopped("subject"))]
        assert rig.host.fds() == []
    finally:
        rig.loop.stop()


@pytest.mark.parametrize("turn", [Rig.woken_by_thespian, Rig.woken_by_itself])
def test_an_actor_whose_turn_breaks_is_served_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, turn: Callable[[Rig], None]
) -> None:
    rig.loop = SideLoop("test")
    rig.receive(CONFIGURE, sender=NODE)
    try:
        rig.receive(Addresses({"peer": b"1002"}, {}), sender=NODE)
        with monkeypatch.context() as patch:
            patch.setattr(rig.loop, "drain", torn)
            with pytest.raises(OSError, match="torn"):
                turn(rig)
        rig.said(ASK)
        rig.loop.post(Done())
        assert Poll().select(10) == []
        assert rig.said(ASK) == [(1002, 0, Ping())]
    finally:
        rig.loop.stop()


def torn() -> None:
    raise OSError("torn")


def test_what_is_told_to_an_actor_with_a_lane_goes_by_it_and_in_order(serving: Rig, tmp_path: Path) -> None:
    with closing(Lane(tmp_path, "peer", FRAME_BYTES_MAX, lambda: None)) as peer:
        serving.receive(Done())  # told before the host knows where the other is
        serving.receive(Addresses({"peer": b"1002", "subject": b"1003"}, {}))
        serving.receive(Done())
        assert [codec.decode(payload, Channel.LOCAL).message for payload in taken(peer, 2)] == [Ping()] * 2
    assert serving.said(ASK) == []


def test_a_question_and_its_answer_go_by_the_lane(serving: Rig, tmp_path: Path) -> None:
    with closing(Lane(tmp_path, "peer", FRAME_BYTES_MAX, lambda: None)) as peer:
        serving.receive(Addresses({"peer": b"1002", "subject": b"1003"}, {}))
        peer.meet({"subject": b"1003"})
        peer.send("subject", codec.encode(Relay("peer", codec.encode(Status())), 77))
        question, back = until_came(serving, peer)
        asked = codec.decode(question, Channel.LOCAL)
        assert (asked.message, asked.request_id != 0, back is not None) == (Status(), True, True)
        assert back is not None
        back(codec.encode(Report({"from": "peer"}), asked.request_id))
        answer, back = until_came(serving, peer)
        assert codec.decode(answer, Channel.LOCAL)[:2] == (77, Report({"from": "peer"}))
        assert back is None
    assert serving.actor.sent == []


def test_an_actor_speaks_to_its_supervisor_by_the_lane_from_its_first_word(rig: Rig, tmp_path: Path) -> None:
    with closing(Lane(tmp_path, "node", FRAME_BYTES_MAX, lambda: None)) as node:
        rig.receive(CONFIGURE, sender=NODE)
        (word,) = taken(node, 1)
        assert isinstance(codec.decode(word, Channel.LOCAL).message, Ready)
    assert rig.said(ASK) == []


class PretendedChildren:
    """One child, of which a test says when it ends."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def spawn(self, actor: Any, name: str, cls: type) -> Any:
        return PEER

    def exited(self) -> list[str]:
        ended, self.ended = self.ended, []
        return ended

    def names(self) -> set[str]:
        return {"store"}

    def fds(self) -> list[int]:
        return []


@pytest.fixture
def parent(serving: Rig, monkeypatch: pytest.MonkeyPatch) -> PretendedChildren:
    children = PretendedChildren()
    monkeypatch.setattr(serving.host, "_children", children)
    return children


def test_a_child_is_told_its_configuration_first_and_the_rest_in_order_when_it_serves(
    serving: Rig, parent: PretendedChildren
) -> None:
    serving.host.spawn("store")
    for told in (CONFIGURE, Tick("a"), Tick("b")):
        serving.host.tell("store", told)
    assert serving.said(ASK) == [(1002, 0, CONFIGURE)]
    serving.receive(Ready("store", 1, {"address": "1002"}))
    assert serving.said(ASK) == [(1002, 0, Tick("a")), (1002, 0, Tick("b"))]
    serving.host.tell("store", Tick("c"))
    assert serving.said(ASK) == [(1002, 0, Tick("c"))]


def test_what_a_child_has_said_is_heard_before_its_end(
    serving: Rig, parent: PretendedChildren, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Message] = []
    monkeypatch.setattr(serving.subject, "handle", lambda message, ctx: heard.append(message))
    with closing(Lane(tmp_path, "store", FRAME_BYTES_MAX, lambda: None)) as store:
        store.meet({"subject": b"1003"})
        store.send("subject", codec.encode(Tick("last word")))
    parent.ended.append("store")
    until_turned(serving, lambda: len(heard) > 1)
    assert heard == [Tick("last word"), ChildExited("store")]


def test_a_child_that_ended_is_told_nothing_until_it_serves_again(
    serving: Rig, parent: PretendedChildren, tmp_path: Path
) -> None:
    with closing(Lane(tmp_path, "store", FRAME_BYTES_MAX, lambda: None)) as store:
        serving.receive(Ready("store", 1, {"address": "1002"}))
        serving.host.tell("store", Tick("a"))
        assert len(taken(store, 1)) == 1
        parent.ended.append("store")
        serving.host.turn()
        serving.host.tell("store", Tick("b"))
        assert store.turn() == []
    with closing(Lane(tmp_path, "store", FRAME_BYTES_MAX, lambda: None)) as store:
        serving.receive(Ready("store", 2, {"address": "1004"}))
        assert [codec.decode(payload, Channel.LOCAL).message for payload in taken(store, 1)] == [Tick("b")]


def until_came(rig: Rig, lane: Lane) -> tuple[bytes, Back | None]:
    """The one message that comes by a lane while the host has its turns."""
    came: list[tuple[bytes, Back | None]] = []

    def one_came() -> bool:
        came.extend(lane.turn())
        return bool(came)

    until_turned(rig, one_came)
    (one,) = came
    return one


def until_turned(rig: Rig, done: Callable[[], bool]) -> None:
    """Give the host its turns until it has come so far."""
    ends = time.monotonic() + 10
    while not done():
        assert time.monotonic() < ends, "the host has not come so far"
        select.select(rig.host.fds(), [], [], 0.01)
        rig.host.turn()


def test_what_comes_by_a_lane_is_handled_then_flushed(serving: Rig, tmp_path: Path) -> None:
    with closing(Lane(tmp_path, "peer", FRAME_BYTES_MAX, lambda: None)) as peer:
        peer.meet({"subject": b"1"})
        flushes = serving.subject.flushes
        assert peer.send("subject", codec.encode(Tick("now", 1)))
        (watched,) = serving.host.fds()
        assert select.select([watched], [], [], 5)[0]
        while not serving.subject.ticks:
            serving.host.turn()
        assert serving.subject.ticks == [Tick("now", 1)]
        assert serving.subject.flushes > flushes
