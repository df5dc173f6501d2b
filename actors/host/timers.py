"""Timers of one actor."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Timers(Generic[_T]):
    """Things by the time when they are due; of equal times the first that was added comes first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _T]] = []
        self._added = 0

    def add(self, due: float, thing: _T) -> None:
        """``thing`` is due at ``due``, in seconds of any one clock."""
        self._added += 1
        heapq.heappush(self._heap, (due, self._added, thing))

    def next(self) -> float:
        """When the next one is due; infinite where there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def has(self, wanted: Callable[[_T], bool]) -> bool:
        """Whether such a thing is to come."""
        return any(wanted(one) for _, _, one in self._heap)

    def pop_due(self, now: float) -> list[_T]:
        """All that are due at ``now``, which are timers no more."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            taken.append(heapq.heappop(self._heap)[2])
        return taken
