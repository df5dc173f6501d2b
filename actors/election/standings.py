"""The standing of nodes in an election: why each leads, or does not, in words for a person. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from entgldb.messages.errors import Reason
from entgldb.messages.schema import Json
from entgldb.messages.wire import Claim, Rank, Standing

HINDRANCES: Final = {
    Reason.STOOD_DOWN.value: "it was told to stand down",
    Reason.PAUSED.value: "its cloud sync is paused",
}


class _Criterion(NamedTuple):
    name: str
    words: str


CRITERIA: Final = (
    _Criterion("reach", "it reaches {} cloud peers, {} reaches {}"),
    _Criterion("resolvable", "it has the secrets of {} cloud peers, {} of {}"),
    _Criterion("priority", "its election.priority is {}, that of {} is {}"),
)
"""In the order in which ``Rank.better`` asks them."""


def compared(rank: Rank, other: Rank) -> str:
    """The first criterion by which the two ranks differ, told of the node of ``rank``."""
    for criterion in CRITERIA:
        mine, theirs = getattr(rank, criterion.name), getattr(other, criterion.name)
        if mine != theirs:
            return criterion.words.format(mine, other.node_id, theirs)
    how = "before" if rank.node_id < other.node_id else "after"
    return f"it is as fit as {other.node_id}, and its id comes {how} it"


def why_not(standing: Standing | None, claim: Claim | None) -> str:
    """Why a node that does not lead does not."""
    if standing is None:
        return "it has not told its rank"
    if standing.hindrance:
        return HINDRANCES.get(standing.hindrance, standing.hindrance)
    if claim is None:
        return "nobody leads: an election is under way"
    if not standing.rank.better(claim.rank):
        return compared(standing.rank, claim.rank)
    better = compared(standing.rank, claim.rank)
    return f"it takes over when it has been the better one for its election.takeover_delay: {better}"


def ranking(standings: dict[str, Standing | None], claim: Claim | None) -> list[Json]:
    """A row for each node, the best first; one whose rank is unknown stands last."""
    rows = []
    for node_id, standing in standings.items():
        leads = claim is not None and claim.gateway == node_id
        rank = claim.rank if leads and claim is not None else None if standing is None else standing.rank
        row: dict[str, Json] = {"node_id": node_id, "leads": leads}
        row |= {one.name: None if rank is None else getattr(rank, one.name) for one in CRITERIA}
        row["hindrance"] = "" if leads or standing is None else standing.hindrance
        row["why_not"] = "" if leads else why_not(standing, claim)
        rows.append((rank is None, rank and (-rank.reach, -rank.resolvable, -rank.priority), node_id, row))
    return [row for *_, row in sorted(rows, key=lambda item: item[:3])]
