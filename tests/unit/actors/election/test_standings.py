"""Why a node leads and why another does not, as an operator is told."""

from __future__ import annotations

import pytest

from entgldb.actors.election.standings import ranking
from entgldb.actors.node.history import OUTCOMES_KEPT_MAX, Outcomes
from entgldb.messages.client import Report, StandDown, Status
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import ElectionOutcome, PeerDown, PeerUp
from entgldb.messages.wire import Claim, Rank, Standing
from tests.unit.actors.election.test_election_messages import hear, leader, sent

LEADS = Rank(1, 5, "m", 1)


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (None, "it has not told its rank"),
        (Standing(Rank(1, 9, "a", 0)), "it reaches 0 cloud peers, m reaches 1"),
        (Standing(Rank(0, 9, "a", 1)), "it has the secrets of 0 cloud peers, m of 1"),
        (Standing(Rank(1, 0, "a", 1)), "its election.priority is 0, that of m is 5"),
        (Standing(Rank(1, 5, "z", 1)), "it is as fit as m, and its id comes after it"),
        (Standing(Rank(2, 0, "a", 2), Reason.STOOD_DOWN.value), "it was told to stand down"),
        (
            Standing(Rank(2, 0, "a", 2)),
            "it takes over when it has been the better one for its election.takeover_delay: "
            "it reaches 2 cloud peers, m reaches 1",
        ),
    ],
)
def test_each_other_node_has_its_reason(standing: Standing | None, why: str) -> None:
    rows = {row["node_id"]: row for row in ranking({"a": standing, "m": None}, Claim(3, LEADS, 1))}
    assert rows["a"]["why_not"] == why
    assert (rows["m"]["leads"], rows["m"]["reach"], rows["m"]["why_not"]) == (True, 1, "")


def test_the_best_stands_first_and_the_unknown_last() -> None:
    known = {"q": None, "z": Standing(Rank(0, 0, "z")), "a": Standing(Rank(0, 0, "a")), "m": Standing(LEADS)}
    rows = ranking(known, None)
    assert [row["node_id"] for row in rows] == ["m", "a", "z", "q"]
    assert {row["why_not"] for row in rows[:3]} == {"nobody leads: an election is under way"}


def test_a_node_tells_its_standing_to_each_peer_and_again_when_it_has_changed() -> None:
    ctx = leader()
    ctx.hand(PeerUp("a"))
    assert ("a", Standing(Rank(0, 0, "m"))) in sent(ctx)
    ctx.ask(StandDown(5.0))
    assert ("", Standing(Rank(0, 0, "m"), "stood-down")) in sent(ctx)
    ctx.run(6.0)
    assert ("", Standing(Rank(0, 0, "m"))) in sent(ctx)


def test_a_standing_is_believed_of_its_sender_alone_and_forgotten_with_its_link() -> None:
    ctx = leader()
    ctx.hand(PeerUp("a"))
    ctx.hand(PeerUp("z"))
    hear(ctx, "a", Standing(Rank(0, 0, "z")))
    hear(ctx, "z", Standing(Rank(0, 0, "z"), "stood-down"))
    answer = ctx.ask(Status())
    assert isinstance(answer, Report)
    told = {row["node_id"]: row["why_not"] for row in answer.body["ranking"]}
    assert told == {"m": "", "a": "it has not told its rank", "z": "it was told to stand down"}
    ctx.hand(PeerDown("z", "peer-closed"))
    answer = ctx.ask(Status())
    assert isinstance(answer, Report)
    assert [row["node_id"] for row in answer.body["ranking"]] == ["m", "a"]


def test_history_is_bounded_and_tells_the_newest_first() -> None:
    outcomes = Outcomes()
    for epoch in range(1, OUTCOMES_KEPT_MAX + 3):
        assert outcomes.note(ElectionOutcome(epoch, "m" if epoch % 2 else "", f"why {epoch}"), epoch)
    assert not outcomes.note(ElectionOutcome(OUTCOMES_KEPT_MAX + 2, "", "said again"), 0)
    told = outcomes.report()
    assert len(told) == OUTCOMES_KEPT_MAX
    assert told[0] == {"at_ms": 66, "gateway": None, "epoch": 66, "why": "why 66"}
