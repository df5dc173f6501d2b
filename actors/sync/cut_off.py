"""Why this node has no links by an operator's wish: isolated for a trial, or paused."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.messages.errors import Reason
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.schema import Json


class CutOff:
    """Of the links of one actor."""

    def __init__(self, kind: str) -> None:
        """``kind`` of its links: ``lan`` or ``cloud``."""
        self.kind = kind
        self.paused = False
        self._isolated_until = 0.0

    def isolate(self, seconds: float, ctx: Context) -> None:
        """Have no links for so long; 0 ends it."""
        self._isolated_until = ctx.monotonic() + max(0.0, seconds)

    def pause(self, told: PausesChanged) -> bool:
        """Whether that is a change."""
        before, self.paused = self.paused, told.holds(self.kind) is not None
        return self.paused != before

    def reason(self, ctx: Context) -> Reason | None:
        """The word that a peer is told, or None: links are wanted."""
        if self.paused:
            return Reason.PAUSED
        return Reason.ISOLATED if self.isolated_for(ctx) > 0 else None

    def isolated_for(self, ctx: Context) -> float:
        """Seconds that are left."""
        return max(0.0, self._isolated_until - ctx.monotonic())

    def report(self, ctx: Context) -> dict[str, Json]:
        return {"isolated": self.isolated_for(ctx) > 0, "paused": self.paused}
