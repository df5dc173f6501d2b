"""The elections that this node has seen since it was started; older ones stand in its log."""

from __future__ import annotations

from collections import deque
from typing import Final

from entgldb.messages.local.actors import ElectionOutcome
from entgldb.messages.schema import Json

OUTCOMES_KEPT_MAX: Final = 64
"""Outcomes of elections that ``status`` tells."""


class Outcomes:
    """The present outcome, and those before it."""

    def __init__(self) -> None:
        self.present = ElectionOutcome(0, "")
        self._past: deque[tuple[int, ElectionOutcome]] = deque(maxlen=OUTCOMES_KEPT_MAX)

    def note(self, outcome: ElectionOutcome, now_ms: int) -> bool:
        """Whether it is another one than before."""
        before = self.present
        if (outcome.epoch, outcome.gateway) == (before.epoch, before.gateway):
            return False
        self.present = outcome
        self._past.append((now_ms, outcome))
        return True

    def report(self) -> list[Json]:
        """``[{"at_ms", "gateway", "epoch", "why"}]``, the newest first; ``gateway`` None: nobody led."""
        return [
            {"at_ms": at_ms, "gateway": one.gateway or None, "epoch": one.epoch, "why": one.why}
            for at_ms, one in reversed(self._past)
        ]
