"""The last hour in rows of ten seconds: entries a second, and how old writes were when they arrived. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from entgldb.messages.limits import LSNS_BETWEEN

ROW_SECONDS: Final = 10
ROWS: Final = 3600 // ROW_SECONDS
GAP_SECONDS: Final = 120.0
"""Entries that came within so long are shared out evenly over it; of a longer gap nothing is told."""
WAYS: Final = ("in", "out")


class Row:
    """Ten seconds, or as much of them as is known."""

    def __init__(self, at: int) -> None:
        self.at = at
        """Seconds since 1970, of its beginning."""
        self.known = 0.0
        """Seconds of which it is known how many entries came."""
        self.own = self.others = 0.0
        self.arrived = dict.fromkeys(WAYS, (0, 0.0))
        """How many batches, and the sum of their ages in seconds."""

    def fields(self) -> list[float | None]:
        """As the page takes it: time, entries a second, mean milliseconds each way; None is unknown."""
        rates = [round(count / self.known, 2) if self.known else None for count in (self.own, self.others)]
        ages = [round(1000 * total / count, 1) if count else None for count, total in self.arrived.values()]
        return [self.at, *rates, *ages]


class Hour:
    """The rows, made of one status after another."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque(maxlen=ROWS)
        self._before: tuple[float, str, int, int] | None = None
        """Time, origin, lsn and own number at the last look."""
        self._arrived: dict[tuple[str, str], tuple[int, float]] = {}
        """Peer and way -> how many batches had arrived then, and the sum of their ages."""

    def note(self, status: Mapping[str, Any], now: float) -> None:
        """One look, at ``now`` in seconds since 1970; an empty status: the node did not answer."""
        log = status.get("oplog") or {}
        seen = None
        if log.get("lsn") is not None:
            origin = str(log.get("origin", ""))
            own = (log.get("vector") or {}).get(origin, [0])[0]
            seen = (now, origin, int(log["lsn"]) % LSNS_BETWEEN, int(own))
        self._count(seen, now)
        self._before = seen
        row = self._row(now)
        known = arrivals(status)
        for (peer, way), (count, total) in known.items():
            before = self._arrived.get((peer, way))
            if before is not None and count > before[0]:
                so_far = row.arrived[way]
                row.arrived[way] = (so_far[0] + count - before[0], so_far[1] + total - before[1])
        self._arrived = known

    def _count(self, seen: tuple[float, str, int, int] | None, now: float) -> None:
        before = self._before
        if seen is None or before is None or seen[1] != before[1]:
            return
        elapsed = now - before[0]
        if not 0 < elapsed <= GAP_SECONDS:
            return
        own = max(0, seen[3] - before[3])
        others = max(0, seen[2] - before[2] - own)
        for row, seconds in self._since(before[0], now):
            row.known += seconds
            row.own += own * seconds / elapsed
            row.others += others * seconds / elapsed

    def _since(self, begin: float, end: float) -> Iterator[tuple[Row, float]]:
        """The rows of a time, each with the seconds of it that lie in that time."""
        at = begin
        while at < end:
            row = self._row(at)
            until = min(end, row.at + ROW_SECONDS)
            yield row, until - at
            at = until

    def _row(self, at: float) -> Row:
        """That of a moment; only the newest and later ones are there to be had."""
        slot = int(at) // ROW_SECONDS * ROW_SECONDS
        if not self.rows or self.rows[-1].at < slot:
            self.rows.append(Row(slot))
        return self.rows[-1]


def arrivals(status: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, float]]:
    """Peer and way -> batches that have arrived, and the sum of their ages in seconds."""
    sync, gateway = status.get("sync") or {}, status.get("gateway") or {}
    return {
        (str(peer.get("node_id")), way): (sum(report["counts"]), report["sum"])
        for peer in (*(sync.get("peers") or []), *(gateway.get("links") or []))
        for way, report in (peer.get("propagation") or {}).items()
        if way in WAYS
    }
