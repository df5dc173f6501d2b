"""How long a peer may be silent: three heartbeats of the slower side, and never less than three seconds."""

from __future__ import annotations

from typing import Final

from entgldb.messages.limits import HEARTBEAT_SECONDS_MAX
from entgldb.messages.wire import Hello

SECONDS_MIN: Final = 3.0
"""Seconds without a byte after which a peer may count as down, unless its heartbeats are far apart."""
BEATS_LOST: Final = 3
"""A peer counts as down only after the time of so many heartbeats of the slower side."""


def patience(heartbeat_interval: float, said: Hello | None) -> float:
    """Seconds without a byte after which the link to who said Hello is given up."""
    theirs = 0.0 if said is None else min(said.beat_ms / 1000, HEARTBEAT_SECONDS_MAX)
    return max(SECONDS_MIN, BEATS_LOST * max(heartbeat_interval, theirs))
