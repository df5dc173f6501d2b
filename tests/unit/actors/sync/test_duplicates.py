"""Two running nodes with one node id, as a third node sees them."""

from __future__ import annotations

from entgldb.actors.session.session import Session
from entgldb.actors.session.writers import Writers
from entgldb.actors.silence import SECONDS_MIN
from entgldb.actors.sync.duplicates import ALARM_AFTER, ALARM_OVER, Duplicates
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import LinkUp
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ListLog

ORIGIN = "lan-1/" + "0" * 32


def link(number: int, life: int, ctx: FakeContext) -> PeerLink:
    """An inbound link on which lan-1 has said Hello."""
    peer = PeerLink(LinkUp(number, True, f"10.0.0.{number}:50000", "lan-1"), ctx.monotonic())
    said = wire.Hello(1, 1, "lan-1", ORIGIN, "cluster", (), ctx.now_ms(), "lan", listen_port=7000, life=life)
    peer.accept(said, ctx)
    peer.session = Session(
        name="s",
        owner="sync",
        log=(log := ListLog()),
        writers=Writers("n", Trusting(), log),
        chunks=NoSnapshots(),
        send=lambda message: True,
        cloud=False,
    )
    peer.session.start(ctx)
    peer.session.receive(wire.Vectors({}, {}), ctx)
    return peer


def test_another_process_is_refused_while_the_first_is_heard_and_not_after() -> None:
    ctx, duplicates = FakeContext(), Duplicates()
    first, second = link(1, 7, ctx), link(2, 8, ctx)
    assert duplicates.judge(second, first, "lan-2", ctx) is Reason.DUPLICATE_NODE
    ctx._now += 2.0
    assert duplicates.judge(second, first, "lan-2", ctx) is None


def test_a_second_link_of_one_process_is_judged_as_before() -> None:
    ctx, duplicates = FakeContext(), Duplicates()
    assert duplicates.judge(link(2, 7, ctx), link(1, 7, ctx), "lan-2", ctx) is None
    assert duplicates.judge(link(2, 0, ctx), link(1, 7, ctx), "lan-2", ctx) is None


def test_the_alarm_waits_until_no_dead_link_can_be_meant_and_ends_by_itself() -> None:
    ctx, duplicates = FakeContext(), Duplicates()
    duplicates.judge(link(2, 8, ctx), link(1, 7, ctx), "lan-2", ctx)
    assert duplicates.report(ctx) == []
    ctx._now += ALARM_AFTER * SECONDS_MIN + 1
    duplicates.judge(link(2, 8, ctx), link(1, 7, ctx), "lan-2", ctx)
    (alarm,) = duplicates.report(ctx)
    assert isinstance(alarm, dict)
    assert (alarm["code"], alarm["subject"]) == ("duplicate-node", "lan-1")
    assert "10.0.0.1:50000" in str(alarm["text"])
    ctx._now += ALARM_OVER + 1
    assert duplicates.report(ctx) == []
