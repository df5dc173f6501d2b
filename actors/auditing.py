"""Events for the audit log that an actor tells the store of: bounded, with a count of those left out."""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.messages.administration import Event, Happened
from entgldb.storage.audit.sparing import Sparing

LEFT_OUT: Final = "left-out"
"""The outcome of a row that tells only how many others there were."""


class Auditing:
    """Of one actor. ``tend`` it now and then: what was left out has a row when there is room again."""

    def __init__(self) -> None:
        self._sparing = Sparing()

    def tell(
        self,
        ctx: Context,
        event: Event,
        subject: str = "",
        outcome: str = "",
        *,
        who: str = "",
        key_id: str = "",
    ) -> None:
        """Something happened that others can cause as often as they like."""
        left = self._sparing.take(event, ctx.monotonic())
        if left is not None:
            ctx.tell("store", Happened(event.value, subject, outcome, who, key_id, left))

    def tend(self, ctx: Context) -> None:
        """Tell of what was left out, where nothing of its kind has come since."""
        for event, times in self._sparing.overdue(ctx.monotonic()):
            ctx.tell("store", Happened(event, "", LEFT_OUT, left_out=times))
