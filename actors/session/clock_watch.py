"""How the clocks of peers compare with ours: each peer's offset, and whether ours is the odd one out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from entgldb.actors.behaviour import Context
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.actors import ClockJudged

READINGS, READINGS_MIN = 5, 3
"""Heartbeats of a peer that are looked at, and how many it takes to know its clock."""
PEERS_MIN = 2
"""One peer that disagrees does not say who is wrong."""


class PeerClock:
    """A peer's clock, read at each of its heartbeats.

    A reading is older than it says by its way here. Of the last few the one with the shortest way counts,
    that is the one furthest ahead (Cristian, "Probabilistic clock synchronization", 1989). Readings are kept
    against a clock that nobody sets, so that a jump of our own is noticed at once, and that goes on while
    the machine sleeps: by another one a laptop that wakes is hours ahead of all its peers.
    """

    def __init__(self) -> None:
        self._readings: deque[float] = deque(maxlen=READINGS)

    def said(self, clock_ms: int, ctx: Context) -> None:
        """A heartbeat has brought the peer's wall clock."""
        self._readings.append(clock_ms - ctx.since_boot() * 1000)

    def offset_ms(self, ctx: Context) -> int | None:
        """How far the peer's clock is ahead of ours; None while unknown."""
        if len(self._readings) < READINGS_MIN:
            return None
        return round(max(self._readings) + ctx.since_boot() * 1000 - ctx.now_ms())


class Steps:
    """Notices that somebody has set our wall clock: it moves by more or less than the monotonic one."""

    def __init__(self) -> None:
        self._apart: float | None = None

    def look(self, ctx: Context) -> int:
        """By how many milliseconds it was set since the last look; 0 for what is within the drift bound."""
        apart, before = ctx.now_ms() - ctx.monotonic() * 1000, self._apart
        if before is not None and abs(apart - before) <= DRIFT_MS_MAX:
            return 0
        self._apart = apart
        return 0 if before is None else round(apart - before)


class ClockWatch:
    """Tells the store when most peers, and at least two, agree that our clock is off."""

    def __init__(self) -> None:
        self.off = False
        self._reference = 0.0
        """The time of the peers' clocks, less the time since the boot, when they last disagreed with ours."""
        self._counted = (0, 0)

    def look(self, clocks: Iterable[PeerClock], ctx: Context) -> None:
        """At each heartbeat, with the clocks of all peers that live."""
        offsets = sorted(o for clock in clocks if (o := clock.offset_ms(ctx)) is not None)
        before = self.off
        apart = ctx.since_boot() * 1000 - ctx.now_ms()
        if len(offsets) >= PEERS_MIN:
            ahead = [o for o in offsets if o > DRIFT_MS_MAX]
            behind = [o for o in offsets if o < -DRIFT_MS_MAX]
            against = max(ahead, behind, key=len)
            self.off = len(against) >= PEERS_MIN and 2 * len(against) > len(offsets)
            self._counted = (len(against), len(offsets))
            if self.off:
                self._reference = against[len(against) // 2] - apart
        elif self.off:
            # nobody is there to ask any more: it stays wrong until it is set
            self.off = abs(self._reference + apart) > DRIFT_MS_MAX
        if self.off or before:
            ctx.tell("store", ClockJudged(self.off, round(self._reference + apart), *self._counted))
