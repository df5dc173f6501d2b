"""Configuration that our vector covers and that is not here: ``status`` says so where nobody brings it.

It is ordinary for a while: entries that came by a cloud are headers alone until a node of the LAN supplies
them. It lasts where the only disk that had them was lost, or is not linked.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import Context
from entgldb.actors.ports import LogReader
from entgldb.messages.schema import Json

CONFIGURATION_LACKING: Final = "configuration-lacking"
ALARM_AFTER: Final = 60.0
"""Seconds for which it is ordinary."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the file."""


class Lacking:
    """Watches for it on a node of a LAN."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._looked_at = -LOOK_EVERY
        self._since: tuple[float, int] | None = None
        """The moment from which on it has lasted: of the monotonic clock, and of the wall."""

    def tend(self, ctx: Context) -> None:
        """Look, if it is time."""
        now = ctx.monotonic()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        if self._log.vouches():
            self._since = None
        elif self._since is None:
            self._since = now, ctx.now_ms()

    def alarms(self, ctx: Context) -> list[Json]:
        """That it lasts, in the form of ``actors.alarms``."""
        if self._since is None or ctx.monotonic() - self._since[0] < ALARM_AFTER:
            return []
        recorded = self._log.unapplied(1)
        which = (
            f"entry {recorded[0][1]} of {recorded[0][0]}" if recorded else "what a cloud's snapshot covers"
        )
        text = (
            f"configuration is lacking here, such as {which}, and no node that is linked gives it:"
            " link one that has it, or write it anew (peers, rules of collections)"
        )
        return [alarm(CONFIGURATION_LACKING, "", text, self._since[1])]
