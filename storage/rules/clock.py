"""Hybrid logical clock in one integer: 48 bits of milliseconds, 16 bits of counter.

After Kulkarni, Demirbas et al., "Logical Physical Clocks" (2014), with the logical part counted up
inside the same integer: a full counter carries into the milliseconds, so that order is never lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.limits import DRIFT_MS_MAX

COUNTER_BITS: Final = 16
HLC_MAX: Final = 2**63 - 1
"""The greatest integer that SQLite can store; the clock reaches it in the year 6429."""
MS_MAX: Final = HLC_MAX >> COUNTER_BITS
"""The latest millisecond that a stamp can name."""


def from_ms(now_ms: int) -> int:
    """The smallest clock value of a wall-clock millisecond."""
    return now_ms << COUNTER_BITS


def ms_of(hlc: int) -> int:
    """The millisecond part."""
    return hlc >> COUNTER_BITS


def tick(last: int, now_ms: int) -> int:
    """The clock value of a new write: after ``last`` and not before ``now_ms``.

    Raises EntglError ``clock`` where there is none left.
    """
    made = max(last + 1, now_ms << COUNTER_BITS)
    if made > HLC_MAX:
        raise EntglError(
            "the hybrid clock of this node is at its end, in the year 6429: nothing can be stamped",
            code=ErrorCode.CLOCK,
            hint="set the clock of this machine right",
        )
    return made


def advance(last: int, seen: int) -> int:
    """The clock after an entry stamped ``seen`` was applied."""
    return max(last, seen)


def known_ms(now_ms: int, shown: Iterable[int]) -> int:
    """The latest time that a node can believe in: its clock's, or what most clocks have shown.

    ``shown``: the latest time that each node's own clock has ever shown, this node's among them. More than
    half of them have shown at least the median (of an even number the lower one), so that one that lies, or
    half of all, move nothing. Nobody's stamps count, only clocks: else whoever stamps at the edge of the
    drift bound would drag everybody's stamps, and with them the bound, on and on.
    """
    voices = sorted(shown)
    return max(now_ms, voices[(len(voices) - 1) // 2]) if voices else now_ms


def too_far_ahead(hlc: int, now_ms: int) -> bool:
    """Whether an entry is beyond the drift bound and must be held."""
    return hlc > from_ms(now_ms + DRIFT_MS_MAX)
