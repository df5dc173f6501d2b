"""The clocks and the chance of this machine, as a behaviour's Context has them."""

from __future__ import annotations

import time
from random import Random, SystemRandom


class OfThisMachine:
    """The part of a Context that every process has in common."""

    random: Random = SystemRandom()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def since_boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
