"""Distributions that an actor keeps for those who draw them: a fixed array of counters each."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.messages.errors import ProtocolError
from entgldb.messages.schema import Json
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode

SECONDS: Final = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds: from the fsync of a quick disk to one that hangs."""
SPREAD_SECONDS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    *(60.0, 600.0, 3600.0),
)
"""From a push within a LAN to a node that comes back."""
REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

PEERS_MAX: Final = 512
"""Peers of which figures are kept; the one that was met first is forgotten for one more."""


class Histogram:
    """How often a figure was at most each of some bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """One more; a clock that went back counts as no time."""
        value = max(0.0, value)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def used(self) -> bool:
        """Whether anything was counted."""
        return any(self._counts)

    def report(self) -> dict[str, Json]:
        """``le``, the bounds; ``counts`` between them, with one more beyond the last; ``sum`` of all."""
        return {"le": list(self._bounds), "counts": list(self._counts), "sum": self._sum}


class Timings:
    """How long commits take and how much is in one, of one store actor since it began."""

    def __init__(self) -> None:
        self.written = 0
        """Documents that this node has written by itself."""
        self._commits, self._fsyncs = Histogram(SECONDS), Histogram(SECONDS)
        self._requests = Histogram(REQUESTS)

    def committed(self, requests: int, seconds: float, fsync: float) -> None:
        """One transaction, whole, and of it the time that SQLite took to make it durable."""
        self._commits.add(seconds)
        self._fsyncs.add(fsync)
        self._requests.add(requests)

    def report(self) -> dict[str, Json]:
        """``written``, and the distributions."""
        return {
            "written": self.written,
            "commit_seconds": self._commits.report(),
            "fsync_seconds": self._fsyncs.report(),
            "commit_requests": self._requests.report(),
        }


class Propagation:
    """How old writes are when they have arrived, of one peer. It outlives the sessions with it.

    The age is that of the newest entry of a batch, by the clock of its writer, at the moment when the other
    side has committed it. On the way out an own write is measured by one clock; on the way in by two.
    """

    def __init__(self) -> None:
        self._ways = {"in": Histogram(SPREAD_SECONDS), "out": Histogram(SPREAD_SECONDS)}

    def arrived(self, way: str, stamp_ms: int, ctx: Context) -> None:
        """A batch is committed: ``in`` here, ``out`` there. ``stamp_ms`` 0: it says nothing."""
        if stamp_ms:
            self._ways[way].add((ctx.now_ms() - stamp_ms) / 1000)

    def report(self) -> dict[str, Json] | None:
        """By way, where anything has arrived."""
        return {way: one.report() for way, one in self._ways.items() if one.used} or None


class Propagations:
    """Of all peers of one owner."""

    def __init__(self) -> None:
        self._of: dict[str, Propagation] = {}

    def of(self, node_id: str) -> Propagation:
        """The figures of a peer, begun where there are none."""
        if node_id not in self._of and len(self._of) >= PEERS_MAX:
            del self._of[next(iter(self._of))]
        return self._of.setdefault(node_id, Propagation())


def stamp_ms(header: bytes) -> int:
    """When the entry of a header was written, in milliseconds since 1970; 0 where it is no header."""
    try:
        return ms_of(decode(header).hlc)
    except ProtocolError:
        return 0
