"""A node that was dialled can dial: a peer whose sync died may have forgotten where we are."""

from __future__ import annotations

import pytest

from entgldb.actors.line import Flow
from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import codec, wire
from entgldb.messages.administration import Happened
from entgldb.messages.client import Isolate, Report, Status
from entgldb.messages.limits import HEARTBEAT_SECONDS_MAX
from entgldb.messages.local.actors import ClaimHeard, ClaimToSend, FrameIn, LinkDown, LinkUp, Tick
from entgldb.messages.schema import Json
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.gateway.gateway_parts import FakeLinks
from tests.unit.actors.session.list_log import ListLog


class DialLinks(FakeLinks):
    """Notes the addresses that are dialled."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def dial(self, address: str) -> int:
        self.addresses.append(address)
        return 1000 + len(self.addresses)


def connected(links: DialLinks, interval: float = 1.0, theirs: int = 1000) -> FakeContext:
    """Node n1, which n2 has dialled."""
    ctx = FakeContext()
    settings = SyncSettings("n1", "", "lan", "c", "", heartbeat_interval=interval)
    sync = Sync(settings, ListLog(), Trusting(), links, None, NoSnapshots())
    ctx.behaviour = sync
    sync.start(ctx)
    greet(ctx, 1, life=0, beat_ms=theirs)
    return ctx


def greet(ctx: FakeContext, link: int, *, life: int, beat_ms: int = 1000, inbound: bool = True) -> None:
    """n2 is at the other end of a link and has said Hello and what it has."""
    ctx.hand(LinkUp(link, inbound, f"10.0.0.2:{51000 if inbound else 7000}", "n2"))
    origin = "n2/" + "2" * 32
    said = wire.Hello(
        1, 1, "n2", origin, "c", (), ctx.now_ms(), "lan", listen_port=7000, life=life, beat_ms=beat_ms
    )
    ctx.hand(FrameIn(link, codec.encode(said)))
    ctx.hand(FrameIn(link, codec.encode(wire.Vectors({}, {}))))


def test_strangers_that_come_and_go_leave_one_timer() -> None:
    ctx = connected(DialLinks())
    for number in range(500):
        ctx.hand(LinkDown(5000 + number, "tls-refused", "", "10.0.0.9:1"))
    ticks = [message for _, _, message in ctx._timers if isinstance(message, Tick)]
    assert sum(tick.what == "dial" for tick in ticks) <= 2


def test_a_peer_that_dialled_us_is_dialled_when_its_link_is_lost() -> None:
    links = DialLinks()
    ctx = connected(links)
    ctx.run(0.5)
    assert links.addresses == []
    ctx.hand(LinkDown(1, "peer-closed", ""))
    ctx.run(0.5)
    assert links.addresses == ["10.0.0.2:7000"]


@pytest.mark.parametrize("end", [3.0, 0.0], ids=["it is over", "it is called off"])
def test_whoever_was_isolated_dials_the_moment_it_no_longer_is(end: float) -> None:
    links = DialLinks()
    ctx = connected(links)
    ctx.hand(Isolate(3.0 if end else 600.0))
    ctx.hand(LinkDown(1, "isolated", ""))
    ctx.run(2.99)
    assert links.addresses == []
    if not end:
        ctx.hand(Isolate(0.0))
    ctx.run(0.011)
    assert links.addresses == ["10.0.0.2:7000"]


def test_election_hears_a_claim_once_however_many_nodes_repeat_it() -> None:
    ctx = connected(DialLinks())
    claims = [wire.Claim(1, wire.Rank(0, 0, "n3"), beat) for beat in (1, 1, 2, 1)]
    echo = wire.Claim(1, wire.Rank(0, 0, "n1"), 7)
    for claim in claims:
        ctx.hand(FrameIn(1, codec.encode(wire.Heartbeat(0, 0, 0, claim, None, None))))
        ctx.hand(ClaimToSend(claim, False))
    for _ in range(2):  # of an earlier life of this node, and then of this one
        ctx.hand(FrameIn(1, codec.encode(wire.Heartbeat(0, 0, 0, echo, None, None))))
        ctx.hand(ClaimToSend(echo, False))
    heard = [(claims[0], True), (claims[2], False), (echo, True)]
    assert ctx.take(ClaimHeard) == [ClaimHeard("n2", *one) for one in heard]


class Jumping(FakeContext):
    """A context whose wall clock can be set."""

    jump = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.jump


def test_when_the_clock_is_set_whoever_was_refused_for_the_time_is_dialled_at_once() -> None:
    links, ctx = DialLinks(), Jumping()
    ctx.jump = -ctx.now_ms()
    ctx.behaviour = sync = Sync(
        SyncSettings("n1", "", "lan", "c", "", seeds=("10.0.0.2:7000",)),
        ListLog(),
        Trusting(),
        links,
        None,
        NoSnapshots(),
    )
    sync.start(ctx)
    for _ in range(300):
        ctx.run(1.0)
        ctx.hand(LinkDown(1000 + len(links.addresses), "clock", ""))
    links.addresses.clear()
    ctx.run(2.0)
    assert len(links.addresses) <= 1
    links.addresses.clear()
    ctx.jump = 0
    ctx.run(1.1)
    assert links.addresses == ["10.0.0.2:7000"]


@pytest.mark.parametrize(("mine", "theirs"), [(10.0, 1000), (1.0, 10_000), (1.0, 10**9)])
def test_a_peer_is_given_up_after_three_heartbeats_of_the_slower_side(mine: float, theirs: int) -> None:
    links = DialLinks()
    ctx = connected(links, mine, theirs)
    patience = 3 * max(mine, min(theirs / 1000, HEARTBEAT_SECONDS_MAX))
    ctx.run(patience - 0.5)
    assert links.closed == []
    ctx.run(mine + 1.0)
    assert links.closed == [(1, "heartbeat-lost")]


class Trickle(DialLinks):
    """Bytes come all the time, and no whole frame."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def flow(self, link: int) -> Flow:
        self.bytes += 1
        return Flow(self.bytes, 0, 0)


def test_a_link_on_which_bytes_come_is_alive_though_no_frame_is_whole_yet() -> None:
    links = Trickle()
    connected(links).run(60.0)
    assert links.closed == []


def test_a_link_that_is_being_closed_is_no_rival_of_its_successor() -> None:
    links = DialLinks()
    ctx = connected(links)
    ctx.run(4.5)
    assert links.closed == [(1, "heartbeat-lost")]
    greet(ctx, 2, life=0, inbound=False)
    ctx.hand(LinkDown(1, "heartbeat-lost", ""))
    ctx.run(1.0)
    assert links.closed == [(1, "heartbeat-lost")]
    (row,) = shown(ctx)
    assert (row["node_id"], row["state"]) == ("n2", "connected")
    assert row["since"] == ctx.now_ms() - 1_000


def test_who_is_being_closed_is_dialled_at_once() -> None:
    links = DialLinks()
    ctx = connected(links)
    ctx.run(4.5)
    assert links.addresses == ["10.0.0.2:7000"]


def shown(ctx: FakeContext) -> list[dict[str, Json]]:
    report = ctx.ask(Status())
    assert isinstance(report, Report)
    return report.body["peers"]  # type: ignore[return-value]  # a list of rows


def test_who_is_out_is_dialled_no_more_and_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    links = DialLinks()
    ctx = connected(links)
    ctx.hand(LinkDown(1, "peer-closed", "", "10.0.0.2:51000"))
    ctx.run(30.0)
    assert links.addresses
    for number in range(len(links.addresses)):
        ctx.hand(LinkDown(1001 + number, "tls-refused", "we refused its certificate", "10.0.0.2:7000"))
    assert unanswered(ctx) == ["n2"]
    monkeypatch.setattr(ListLog, "expelled", lambda log: frozenset({"n2"}))
    ctx.run(2.0)
    assert unanswered(ctx) == []
    before = len(links.addresses)
    ctx.hand(LinkDown(1000 + before, "tls-refused", "", "10.0.0.2:7000"))
    ctx.run(120.0)
    assert len(links.addresses) == before


def unanswered(ctx: FakeContext) -> list[Json]:
    report = ctx.ask(Status())
    assert isinstance(report, Report)
    rows = report.body["unanswered"]
    assert isinstance(rows, list)
    return [row["node_id"] for row in rows]


@pytest.mark.parametrize(
    "reason",
    [
        *("tls-refused", "clock", "wrong-node", "duplicate-node", "other-cluster"),
        *("retired", "expelled", "not-a-member", "old-key", "wrong-key"),
    ],
)
def test_a_link_that_was_refused_for_who_is_there_stands_in_the_audit_log(reason: str) -> None:
    ctx = connected(DialLinks())
    ctx.hand(LinkDown(77, reason, "", "10.0.0.9:1"))
    told = [message for _, message in ctx.told if isinstance(message, Happened)]
    assert [(one.event, one.subject, one.outcome) for one in told] == [("handshake", "10.0.0.9:1", reason)]
