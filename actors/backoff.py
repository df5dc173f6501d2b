"""Exponential backoff, with jitter where several wait for one: Brooker, "Exponential Backoff And Jitter"
(AWS, 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

DOUBLINGS_MAX: Final = 16


def backoff(failures: int, first: float, most: float, random: Random | None = None) -> float:
    """Seconds to wait after so many failures in a row: ``first``, doubled with each more, ``most`` at most.

    With ``random`` it is a half of that or more.
    """
    longest = min(most, first * 2.0 ** min(failures - 1, DOUBLINGS_MAX))
    return longest if random is None else longest * random.uniform(0.5, 1.0)
