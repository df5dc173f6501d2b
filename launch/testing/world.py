"""Virtual time: a heap of things to do, one source of chance, one trace.

Nothing here or above asks the machine for time or chance, so one seed is one history.
"""

from __future__ import annotations

import gc
import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from random import Random
from typing import Any

EPOCH_MS = 1_800_000_000_000
"""The wall clock's reading at virtual time 0."""


@contextmanager
def no_collector() -> Iterator[None]:
    """A history makes few rings that nobody holds, and ends soon: to look for them costs a tenth of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class BrokenPromise(BaseException):
    """Ends a history of which only this is asked: whether it breaks a promise. Nothing below may catch it."""


class World:
    """The scheduler. ``time`` is virtual seconds since the start."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 -- one seed is one history
        self.time = 0.0
        self.faults: Counter[str] = Counter()
        """Kind -> how many were injected."""
        self.reached: Counter[str] = Counter()
        """Rare branch -> how often it was seen to be taken."""
        self.violations: list[str] = []
        self.ends_when_broken = False
        self.events = 0
        self.lane_loss = 0.0
        """The chance that what one actor of a node tells another is dropped, as by a queue that is full."""
        self.send_refusal = 0.0
        """The chance that a link's queue is full: the frame is refused, and the link closes."""
        self.lines: list[str] | None = [] if keep_trace else None
        self._digest = blake2b(digest_size=16)
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, seconds: float, work: Callable[..., object], *args: Any) -> None:
        """Do ``work`` later; works due at the same time are done in the order of asking."""
        self._count += 1
        heapq.heappush(self._heap, (self.time + max(0.0, seconds), self._count, work, args))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let ``seconds`` pass, or less when ``until`` becomes true."""
        end, heap = self.time + seconds, self._heap
        while heap and heap[0][0] <= end:
            self.time, _, work, args = heapq.heappop(heap)
            self.events += 1
            work(*args)
            if until is not None and until():
                return
        self.time = end

    def note(self, text: str, data: bytes = b"") -> None:
        """Put something that happened into the trace."""
        line = f"{self.time:.6f} {text}"
        self._digest.update(line.encode())
        self._digest.update(data)
        if self.lines is not None:
            self.lines.append(f"{line} {data.hex()[:80]}")

    def fault(self, kind: str, detail: str = "") -> None:
        """Count an injected fault."""
        self.faults[kind] += 1
        self.note(f"fault {kind} {detail}")

    def violate(self, text: str) -> None:
        """A promise was broken."""
        self.violations.append(f"at {self.time:.3f} s: {text}")
        self.note(f"violation {text}")
        if self.ends_when_broken:
            raise BrokenPromise(text)

    @property
    def trace(self) -> str:
        """The digest of all that happened."""
        return self._digest.hexdigest()


class Clock:
    """The wall clock of one node: it may be coarse, and it may jump."""

    def __init__(self, world: World, grain_ms: int) -> None:
        self._world = world
        self._grain_ms = grain_ms
        self.offset_ms = 0
        self.highest_ms = 0
        """The latest it ever said."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, as this node sees them."""
        now = EPOCH_MS + int(self._world.time * 1000) + self.offset_ms
        now -= now % self._grain_ms
        self.highest_ms = max(self.highest_ms, now)
        return now
