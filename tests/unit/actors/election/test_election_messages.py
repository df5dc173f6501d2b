"""One election, message by message."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from entgldb.actors.election.behaviour import Bully
from entgldb.actors.session.claims import EPOCH_MAX, Carried
from entgldb.messages import codec
from entgldb.messages.client import Done, Report, StandDown, Status
from entgldb.messages.errors import Reason
from entgldb.messages.limits import CLOUDS_TOLD_MAX
from entgldb.messages.local.actors import (
    ClaimHeard,
    ClaimToSend,
    Configure,
    ElectionOutcome,
    FromPeer,
    PeerDown,
    PeerUp,
    StopNow,
    Stopped,
    ToPeer,
)
from entgldb.messages.schema import Channel, Message
from entgldb.messages.settings import ElectionSettings
from entgldb.messages.wire import Alive, Claim, Coordinator, Election, Rank, Standing, Want
from tests.support.fake_context import FakeContext


def node(node_id: str = "m", priority: int = 0) -> FakeContext:
    ctx = FakeContext()
    ctx.behaviour = Bully(ElectionSettings(node_id, "lan", priority))
    ctx.behaviour.start(ctx)
    return ctx


def leader() -> FakeContext:
    ctx = node()
    ctx.run(2.1)
    ctx.told.clear()
    return ctx


def bully(ctx: FakeContext) -> Bully:
    assert isinstance(ctx.behaviour, Bully)
    return ctx.behaviour


def sent(ctx: FakeContext) -> list[tuple[str, Message]]:
    return [(m.node_id, codec.decode(m.payload, Channel.PEER).message) for m in ctx.take(ToPeer, "sync")]


def frames(ctx: FakeContext) -> list[tuple[str, Message]]:
    """Those that decide something."""
    return [(to, frame) for to, frame in sent(ctx) if not isinstance(frame, Standing)]


def outcomes(ctx: FakeContext) -> list[tuple[int, str]]:
    return [(one.epoch, one.gateway) for one in ctx.take(ElectionOutcome)]


def hear(ctx: FakeContext, sender: str, message: Message) -> None:
    ctx.hand(FromPeer(sender, codec.encode(message)))


def claim(gateway: str, epoch: int = 1, beat: int = 1, resolvable: int = 0) -> Claim:
    return Claim(epoch, Rank(resolvable, 0, gateway), beat)


def test_it_listens_before_it_elects() -> None:
    ctx = node()
    ctx.run(0.95)
    assert frames(ctx) == []
    ctx.run(0.56)
    assert frames(ctx) == [("", Election(1, Rank(0, 0, "m")))]
    ctx.run(0.5)
    sent = frames(ctx)
    assert len(sent) == 1
    assert isinstance(sent[0][1], Coordinator)
    assert [message.now for message in ctx.take(ClaimToSend) if message.claim] == [True]


def test_a_leader_counts_its_beat_up_every_second() -> None:
    ctx = leader()
    ctx.run(5)
    beats = [m.claim.beat for m in ctx.take(ClaimToSend) if m.claim is not None]
    assert len(beats) == 5
    assert all(after == before + 1 for before, after in itertools.pairwise(beats))


def test_a_follower_takes_newer_beats_and_no_older_ones_and_leaves_it_to_sync_to_tell_them_on() -> None:
    ctx = node()
    for beat in (5, 7, 6):
        ctx.hand(ClaimHeard("x", claim("a", beat=beat)))
    assert [m.claim.beat for m in ctx.take(ClaimToSend) if m.claim is not None] == [5]
    assert bully(ctx).claims.current == claim("a", beat=7)


def test_an_election_that_starts_again_has_sync_forget_the_claim_of_its_life_before() -> None:
    ctx = FakeContext()
    ctx.behaviour = Bully(ElectionSettings("m", "lan", 0))
    ctx.behaviour.start(ctx)
    assert ctx.take(ClaimToSend) == [ClaimToSend(None, False)]


def test_a_newer_beat_is_carried_at_once_and_nothing_else_is_without_elections_word() -> None:
    carried = Carried("m")
    assert carried.hear(claim("a", beat=5))
    assert carried.claim is None
    carried.claim = claim("a", beat=5)
    assert not carried.hear(claim("a", beat=5))
    assert carried.hear(claim("a", beat=7, resolvable=2))
    assert carried.claim == claim("a", beat=7, resolvable=2)
    assert not carried.hear(claim("a", beat=6))
    assert carried.hear(claim("b", epoch=2, beat=9))
    assert carried.claim == claim("a", beat=7, resolvable=2)


def test_no_claim_of_this_node_itself_and_none_that_is_too_large_is_carried_on_the_word_of_others() -> None:
    carried = Carried("m")
    for mine, theirs in (
        (claim("m", beat=5), claim("m", beat=7)),
        (claim("a", beat=5), replace(claim("a", beat=7), connected=("x",) * (CLOUDS_TOLD_MAX + 1))),
    ):
        carried.claim = mine
        assert carried.hear(theirs)
        assert carried.claim == mine


def test_an_alive_makes_it_wait_for_a_coordinator_but_not_for_ever() -> None:
    ctx = node()
    ctx.run(1.51)
    frames(ctx)
    hear(ctx, "a", Alive(4))
    ctx.run(1.9)
    assert frames(ctx) == []
    assert bully(ctx).state == "pending"
    ctx.run(0.2)
    assert frames(ctx) == [("", Election(5, Rank(0, 0, "m")))]


def test_a_worse_candidate_gets_alive_and_an_election_of_its_better() -> None:
    ctx = node()
    hear(ctx, "z", Election(1, Rank(0, 0, "z")))
    assert frames(ctx) == [("z", Alive(0)), ("", Election(1, Rank(0, 0, "m")))]


def test_a_better_candidate_is_left_alone() -> None:
    ctx = node()
    hear(ctx, "a", Election(1, Rank(0, 0, "a")))
    assert frames(ctx) == []


def test_a_leader_tells_a_newcomer_that_it_leads() -> None:
    ctx = leader()
    beat = bully(ctx).claims.current
    assert beat is not None
    hear(ctx, "a", Election(1, Rank(0, 0, "a")))
    assert frames(ctx) == [("a", Coordinator(claim("m", beat=beat.beat + 1)))]


def test_a_leader_lets_a_better_node_take_over() -> None:
    ctx = leader()
    hear(ctx, "a", Election(2, Rank(0, 0, "a")))
    assert frames(ctx) == []
    hear(ctx, "a", Coordinator(claim("a", epoch=2)))
    assert bully(ctx).state == "following"
    assert outcomes(ctx) == [(2, "a")]


def test_a_follower_tells_a_candidate_whom_it_follows() -> None:
    ctx = node()
    ctx.hand(ClaimHeard("a", claim("a")))
    ctx.told.clear()
    hear(ctx, "z", Election(1, Rank(0, 0, "z")))
    assert frames(ctx) == [("z", Alive(1))]
    assert ctx.take(ClaimToSend) == [ClaimToSend(claim("a"), True)]


def test_a_word_that_sync_has_not_got_is_said_again() -> None:
    ctx = node()
    ctx.take(ClaimToSend)
    ctx.hand(ClaimHeard("a", claim("a", epoch=3), True))
    assert ctx.take(ClaimToSend) == [ClaimToSend(claim("a", epoch=3), True)]
    ctx.hand(ClaimHeard("a", claim("a", epoch=3, beat=2), True))
    assert ctx.take(ClaimToSend) == [], "it may be on its way"
    ctx.run(1.1)
    ctx.hand(ClaimHeard("a", claim("a", epoch=3, beat=3), False))
    ctx.hand(ClaimHeard("x", claim("z", epoch=1), True))
    assert ctx.take(ClaimToSend) == []
    ctx.hand(ClaimHeard("a", claim("a", epoch=3, beat=3), True))
    ctx.hand(ClaimHeard("a", claim("a", epoch=3, beat=4), True))
    assert ctx.take(ClaimToSend) == [ClaimToSend(claim("a", epoch=3, beat=3), False)]


def test_a_second_nodes_doubt_confirms_that_the_gateway_is_gone() -> None:
    ctx = node()
    ctx.hand(ClaimHeard("a", claim("a")))
    ctx.run(1.6)
    hear(ctx, "z", Election(2, Rank(0, 0, "z")))
    assert (("", Election(2, Rank(0, 0, "m")))) in frames(ctx)


def test_the_lower_claim_steps_down_at_once() -> None:
    ctx = leader()
    ctx.hand(ClaimHeard("x", claim("z", epoch=1)))
    assert bully(ctx).state == "leading"
    ctx.hand(ClaimHeard("x", claim("z", epoch=2)))
    assert outcomes(ctx) == [(2, "z")]
    assert bully(ctx).counts == {"stale-epoch": 1}


def test_equal_epochs_are_decided_by_rank() -> None:
    ctx = leader()
    ctx.hand(ClaimHeard("z", claim("z", resolvable=1)))
    assert outcomes(ctx) == [(1, "z")]


def test_an_echo_of_an_earlier_life_is_outbid() -> None:
    ctx = leader()
    ctx.hand(ClaimHeard("x", claim("m", epoch=7)))
    assert outcomes(ctx) == [(8, "m")]


def test_a_dead_claim_is_not_revived_without_a_newer_beat() -> None:
    ctx = node("b")
    ctx.hand(ClaimHeard("x", claim("a", epoch=3, beat=9)))
    ctx.run(3.1)
    ctx.hand(ClaimHeard("x", claim("a", epoch=3, beat=9)))
    assert bully(ctx).claims.gateway == ""
    assert bully(ctx).counts["stale-epoch"] == 1
    ctx.hand(ClaimHeard("x", claim("a", epoch=3, beat=10)))
    assert bully(ctx).claims.gateway == "a"


def test_a_node_that_has_lost_every_link_waits_for_the_beat() -> None:
    ctx = node()
    ctx.hand(ClaimHeard("a", claim("a")))
    ctx.hand(PeerDown("a", "peer-closed"))
    ctx.run(2.9)
    assert bully(ctx).claims.gateway == "a"
    ctx.run(0.2)
    assert bully(ctx).claims.gateway == ""


@pytest.mark.parametrize(
    ("reason", "seconds"), [(Reason.HEARTBEAT_LOST, 1.5), (Reason.PEER_CLOSED, 0.8)], ids=str
)
def test_a_lost_link_to_the_gateway_expires_it_soon(reason: Reason, seconds: float) -> None:
    ctx = node()
    ctx.hand(PeerUp("a"))
    ctx.hand(PeerUp("b"))
    ctx.hand(ClaimHeard("a", claim("a")))
    ctx.run(1.2)
    ctx.hand(ClaimHeard("a", claim("a", beat=2)))
    ctx.hand(PeerDown("a", reason.value))
    ctx.run(seconds - 0.1)
    assert bully(ctx).claims.gateway == "a"
    ctx.run(0.2)
    assert bully(ctx).claims.gateway == ""


@pytest.mark.parametrize("rescue", [PeerUp("a"), ClaimHeard("x", claim("a", beat=2))])
def test_a_link_that_returns_or_a_beat_by_another_way_saves_the_gateway(rescue: Message) -> None:
    ctx = node()
    ctx.hand(PeerUp("b"))
    ctx.hand(ClaimHeard("a", claim("a")))
    ctx.hand(PeerDown("a", Reason.HEARTBEAT_LOST.value))
    ctx.run(1.0)
    ctx.hand(rescue)
    ctx.run(1.9)
    assert bully(ctx).claims.gateway == "a"


def test_a_new_peer_hears_at_once_who_leads() -> None:
    ctx = leader()
    ctx.hand(PeerUp("z"))
    assert [(to, type(m)) for to, m in frames(ctx)] == [("z", Coordinator)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xc1", "malformed"),
        (codec.encode(Election(1, Rank(0, 0, "other"))), "malformed"),
        (codec.encode(Coordinator(claim("other"))), "malformed"),
        (codec.encode(Coordinator(claim("x", epoch=EPOCH_MAX + 1))), "malformed"),
        (codec.encode(Coordinator(claim("x", epoch=0))), "malformed"),
        (codec.encode(Want(())), "malformed"),
        (codec.encode(StandDown(9.0)), "unknown-message"),
    ],
)
def test_what_cannot_be_true_is_counted_and_changes_nothing(payload: bytes, reason: str) -> None:
    ctx = node()
    ctx.hand(FromPeer("x", payload))
    assert bully(ctx).counts == {reason: 1}
    assert bully(ctx).claims.gateway == ""
    assert frames(ctx) == []


def test_status_says_who_leads() -> None:
    ctx = leader()
    ctx.hand(PeerUp("z"))
    answer = ctx.ask(Status())
    assert isinstance(answer, Report)
    assert {k: answer.body[k] for k in ("gateway", "epoch", "is_gateway", "candidates")} == {
        "gateway": "m",
        "epoch": 1,
        "is_gateway": True,
        "candidates": ["m", "z"],
    }


def test_a_node_that_stands_down_alone_leaves_nobody_leading() -> None:
    ctx = leader()
    assert ctx.ask(StandDown(5.0)) == Done()
    assert outcomes(ctx) == [(1, "")]
    ctx.run(4.9)
    assert bully(ctx).state == "idle"
    ctx.run(0.7)
    assert outcomes(ctx) == [(2, "m")]


def test_an_order_to_stand_down_can_be_taken_back() -> None:
    ctx = leader()
    ctx.ask(StandDown(500.0))
    ctx.ask(StandDown(0.0))
    ctx.run(0.6)
    assert bully(ctx).state == "leading"


def test_a_new_priority_shows_in_the_claim() -> None:
    ctx = leader()
    ctx.hand(Configure(election=ElectionSettings("m", "lan", 7)))
    last = ctx.take(ClaimToSend)[-1]
    assert last.now
    assert last.claim is not None
    assert last.claim.rank.priority == 7


def test_a_node_that_stops_resigns() -> None:
    ctx = leader()
    assert ctx.ask(StopNow()) == Stopped("election")
    assert [m for _, m in frames(ctx)] == [Election(1, Rank(-1, 0, "m", -1))]
    ctx.run(10)
    assert bully(ctx).state == "idle"
