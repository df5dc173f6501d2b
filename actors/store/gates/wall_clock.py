"""The time of the wall clock by which documents expire: a leap is not believed before it has lasted.

A document that was hidden once is hidden, though the clock is set right a moment later. So the wall clock is
held against one that nobody sets, and that goes on while the machine sleeps.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.messages.limits import DRIFT_MS_MAX

LEAP_SECONDS: Final = 60.0
"""So long a clock has to keep the time to which it was set."""


class WallClock:
    """The time that it is believed. At a start, with nothing to hold it against, it is taken at its word."""

    def __init__(self) -> None:
        self._trusted: float | None = None
        """The wall clock less the time since the boot, in milliseconds."""
        self._leapt: float | None = None
        """The same since it was set, while that is not believed."""
        self._since = 0.0

    def is_refuted(self) -> None:
        """Most peers say that it is wrong: a leap begins to last only when they do not say so any more."""
        self._leapt = None

    def believed_ms(self, ctx: Context) -> int:
        """Its time; while it is not believed, the time that it had shown and the time since then.

        That it was set back is believed at once, and where it comes forward again meanwhile, that is, too.
        """
        now_ms, boot_ms = ctx.now_ms(), ctx.since_boot() * 1000
        apart = now_ms - boot_ms
        if self._trusted is None or abs(apart - self._trusted) <= DRIFT_MS_MAX:
            self._trusted, self._leapt = apart, None
        elif self._leapt is None or abs(apart - self._leapt) > DRIFT_MS_MAX:
            self._leapt, self._since = apart, boot_ms
        elif boot_ms - self._since >= LEAP_SECONDS * 1000:
            self._trusted, self._leapt = apart, None
        return min(now_ms, round(self._trusted + boot_ms))
