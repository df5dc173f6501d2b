"""A node's knowledge of claims to be gateway: the present one, the highest epoch, and the dead ones."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from entgldb.messages.limits import CLOUDS_TOLD_MAX, NAME_CHARS_MAX
from entgldb.messages.wire import Claim, Rank

EPOCH_MAX: Final = 2**40
"""No honest epoch comes near it. Nobody claims a higher one: at it the better rank alone decides."""
DEAD_CLAIMS_MAX: Final = 64


class Carried:
    """The claim that a node's heartbeats carry: election's word, with the newest beat heard since."""

    def __init__(self, node_id: str) -> None:
        self.claim: Claim | None = None
        self._node_id = node_id

    def hear(self, claim: Claim) -> bool:
        """A peer's heartbeat has carried ``claim``; whether election is to judge it.

        Every node repeats the present claim, and ``judge`` would find it OLD or an ECHO. A newer beat of
        it is carried from now on.
        """
        known = self.claim
        if known is None or self.differs(claim):
            return True
        if claim.beat > known.beat and claim.gateway != self._node_id and _fits(claim):
            self.claim = claim
        return claim.beat > known.beat

    def differs(self, claim: Claim) -> bool:
        """Whether another claim is carried, or none."""
        known = self.claim
        return known is None or (claim.epoch, claim.gateway) != (known.epoch, known.gateway)


def _fits(claim: Claim) -> bool:
    """Whether a claim, which every node repeats, is no larger than an honest one can be."""
    words = [*claim.connected, *(word for row in claim.troubles for word in row), claim.gateway]
    rows = max(len(claim.connected), len(claim.troubles))
    return rows <= CLOUDS_TOLD_MAX and all(len(word) <= NAME_CHARS_MAX for word in words)


class Verdict(Enum):
    """The judgement of a claim that was heard, by the claims that are known."""

    MALFORMED = auto()
    ECHO = auto()
    """This node's own claim, told by others."""
    DEAD = auto()
    """Its beat already stood still."""
    OLD = auto()
    """The present claim with a beat that is known."""
    NEWER_BEAT = auto()
    OUTBIDS = auto()
    """Higher epoch, or equal epoch and better rank; or there was no claim."""
    LOWER = auto()


class Claims:
    """The claims one node has heard or made."""

    def __init__(self, node_id: str) -> None:
        self.current: Claim | None = None
        """The claim this node follows or makes; kept while it tries to take over from it."""
        self.epoch_seen = 0
        self.connected: tuple[str, ...] = ()
        """Cloud peers that this node is linked to; a claim of this node tells them."""
        self.troubles: tuple[tuple[str, str], ...] = ()
        """Cloud peers that this node is not linked to, or soon will not be, and why; told likewise."""
        self._node_id = node_id
        self._dead: dict[tuple[int, str], int] = {}

    @property
    def gateway(self) -> str:
        """Empty while nobody is known to lead."""
        return self.current.gateway if self.current else ""

    @property
    def epoch(self) -> int:
        """The epoch of the claim, or the highest that was heard of."""
        return self.current.epoch if self.current else self.epoch_seen

    def see_epoch(self, epoch: int) -> bool:
        """Remember the highest epoch; False for one that cannot be honest."""
        if not 0 <= epoch <= EPOCH_MAX:
            return False
        self.epoch_seen = max(self.epoch_seen, epoch)
        return True

    def next_epoch(self) -> int:
        """One that outbids all that was heard, where there is any."""
        return min(self.epoch_seen + 1, EPOCH_MAX)

    def judge(self, claim: Claim) -> Verdict:
        """Compare a claim that was heard with the present one. Changes nothing but ``epoch_seen``."""
        if claim.epoch == 0 or not _fits(claim) or not self.see_epoch(claim.epoch):
            return Verdict.MALFORMED
        if claim.gateway == self._node_id:
            return Verdict.ECHO
        if claim.beat <= self._dead.get((claim.epoch, claim.gateway), -1):
            return Verdict.DEAD
        mine = self.current
        if mine is None:
            return Verdict.OUTBIDS
        if (mine.epoch, mine.gateway) == (claim.epoch, claim.gateway):
            return Verdict.NEWER_BEAT if claim.beat > mine.beat else Verdict.OLD
        if claim.epoch != mine.epoch:
            return Verdict.OUTBIDS if claim.epoch > mine.epoch else Verdict.LOWER
        return Verdict.OUTBIDS if claim.rank.better(mine.rank) else Verdict.LOWER

    def count_up(self, rank: Rank) -> Claim:
        """Gateway only: its claim with the next beat and its present rank."""
        assert self.current is not None
        beat, told = self.current.beat + 1, (self.connected, self.troubles)
        self.current = Claim(self.current.epoch, rank, beat, *told)
        return self.current

    def bury(self) -> None:
        """The present claim is dead: nobody's word revives it without a newer beat."""
        if self.current is None:
            return
        self._dead[(self.current.epoch, self.current.gateway)] = self.current.beat
        while len(self._dead) > DEAD_CLAIMS_MAX:
            del self._dead[next(iter(self._dead))]
        self.current = None
