"""Whether this node should lead in the gateway's place: for how long it has been the better one, and whether
it would be, if it reached as many cloud peers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.session.reach import PROOF_SECONDS
from entgldb.messages.local.actors import ProveReach
from entgldb.messages.wire import Rank

PROVE_AFTER: Final = 3.0
"""How long the gateway has lacked reach, or this node been the better one but for it, before it is proved."""


class Rivalry:
    """Of one node with the gateway that it follows."""

    def __init__(self) -> None:
        self._better_since: float | None = None
        self._prove_at = 0.0

    def forget(self) -> None:
        """Another one leads, or this node stands no more."""
        self._better_since = None

    def wins(self, mine: Rank | None, theirs: Rank, delay: float, ctx: Context) -> bool:
        """Only who has been the better one for ``delay`` seconds: a flapping node never leads.

        ``mine``: None where this node does not stand.
        """
        if mine is None or not mine.better(theirs):
            self._better_since = None
        elif self._better_since is None:
            self._better_since = ctx.monotonic()
        elif ctx.monotonic() - self._better_since >= delay:
            self._better_since = None
            return True
        return False

    def prove(self, mine: Rank | None, theirs: Rank, ctx: Context) -> None:
        """Have the cloud peers probed, if the gateway reaches less than there is to reach, or if this node
        would lead once it reached as much."""
        now = ctx.monotonic()
        doubt = (
            mine is not None
            and mine.resolvable
            and (
                theirs.reach < mine.resolvable
                or (theirs.reach and replace(mine, reach=theirs.reach).better(theirs))
            )
        )
        if not doubt:
            self._prove_at = now + PROVE_AFTER
        elif now >= self._prove_at:
            self._prove_at = now + PROOF_SECONDS
            ctx.tell("gateway", ProveReach())
