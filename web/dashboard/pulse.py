"""Looks at the node now and then, keeps an hour of figures, and tells every page that is open.

A page that nobody looks at costs a look each ``IDLE_SECONDS``. Memory is bounded: one row for ten seconds.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from entgldb.messages.errors import BusyError, EntglError, NoNodeError
from entgldb.web.dashboard.attention import matters

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

BUSY_SECONDS: Final = 2.0
"""Between two looks while a page is open."""
IDLE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 4.0
"""A node that answers nothing for so long does not answer."""
ROW_SECONDS: Final = 10
WAYS: Final = ("in", "out")
ROWS: Final = 3600 // ROW_SECONDS
"""An hour."""
WATCHERS_MAX: Final = 64
"""Pages that are told at one time."""
VIEWS: Final[Mapping[str, tuple[str, ...]]] = {
    "overview": (
        "store",
        "sync.peers",
        "sync.retired",
        "election",
        "gateway",
        "alarms",
        "oplog.held_back_by",
    ),
    "conflicts": ("store.conflicts",),
    "peers": ("election", "gateway"),
    "nodes": ("sync.members", "sync.peers", "oplog.held_back_by", "election.gateway"),
    "upkeep": ("store.held", "store.unfit", "store.quarantined", "oplog.verify"),
}
"""View -> the parts of the status that it shows."""
QUIET: Final = frozenset(
    (
        *("counts", "now_ms", "seen_ms", "heard_ms", "wal_bytes", "answers_kept_ms", "clock_offset_ms"),
        *("propagation", "commit_seconds", "fsync_seconds", "commit_requests", "followers"),
        *("high_mark_ms", "free_bytes", "offset_ms", "pids", "frames_until_synced", "behind_mark_ms"),
    )
)
"""Fields that change while nothing happens: no reason to draw anew."""


class Row:
    """Ten seconds: entries written here and taken from others, and how old writes were when they arrived."""

    def __init__(self, at: int) -> None:
        self.at = at
        """Seconds since 1970, of its beginning."""
        self.own = self.others = 0
        self.arrived = dict.fromkeys(WAYS, (0, 0.0))
        """How many batches, and the sum of their ages in seconds."""

    def fields(self) -> list[float | None]:
        """As the page takes it: time, entries a second, mean milliseconds each way; None: nothing arrived."""
        own, others = (round(count / ROW_SECONDS, 2) for count in (self.own, self.others))
        ages = [round(1000 * total / count, 1) if count else None for count, total in self.arrived.values()]
        return [self.at, own, others, *ages]


class Pulse:
    """The looks at one database."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db, self._clock = db, clock
        self.status: dict[str, Any] = {}
        """The newest; empty while the node does not answer."""
        self.why = "not asked yet"
        """Why it does not."""
        self.rows: deque[Row] = deque(maxlen=ROWS)
        self.watchers = 0
        self._counted: tuple[str, int, int] | None = None
        """Origin, lsn and own number at the last look."""
        self._arrived: dict[tuple[str, str], tuple[int, float]] = {}
        """Peer and way -> how many batches had arrived then, and the sum of their ages."""
        self._looked = asyncio.Condition()
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Look until the block ends."""
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _beat(self) -> None:
        while True:
            await self.look()
            pause = BUSY_SECONDS if self.watchers else IDLE_SECONDS
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def look(self) -> None:
        """One look, told to all that watch."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self.status, self.why = await self._db.status("node"), ""
        except TimeoutError:
            self._miss(f"nothing came in {LOOK_SECONDS:.0f} s")
        except EntglError as fault:
            self._miss(fault.text)
        self._note(self.status)
        async with self._looked:
            self._looked.notify_all()

    def _miss(self, why: str) -> None:
        self.status, self.why, self._counted = {}, why, None

    async def newest(self) -> dict[str, Any]:
        """The newest look, which a page that is open has anew at once. Raises NoNodeError."""
        if not self.rows:
            return await self._db.status("node")
        if not self.status:
            raise NoNodeError(f"the node does not answer: {self.why}", hint="entgldb start")
        return self.status

    def _note(self, status: Mapping[str, Any]) -> None:
        at = int(self._clock()) // ROW_SECONDS * ROW_SECONDS
        if not self.rows or self.rows[-1].at != at:
            self.rows.append(Row(at))
        row = self.rows[-1]
        log = status.get("oplog") or {}
        if log.get("lsn") is not None:
            origin = str(log.get("origin", ""))
            own = int((log.get("vector") or {}).get(origin, [0])[0])
            if self._counted is not None and self._counted[0] == origin:
                written = max(0, own - self._counted[2])
                row.own += written
                row.others += max(0, log["lsn"] - self._counted[1] - written)
            self._counted = (origin, log["lsn"], own)
        known = arrivals(status)
        for (peer, way), (count, total) in known.items():
            before = self._arrived.get((peer, way))
            if before is not None and count > before[0]:
                so_far = row.arrived[way]
                row.arrived[way] = (so_far[0] + count - before[0], so_far[1] + total - before[1])
        self._arrived = known

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """Kind and JSON of each event for one page: the hour so far, then each look. Raises BusyError."""
        if self.watchers >= WATCHERS_MAX:
            raise BusyError(f"{WATCHERS_MAX} pages are open", hint="close one, or try again later")
        self.watchers += 1
        self._wake.set()
        try:
            yield "history", json.dumps([row.fields() for row in self.rows])
            while True:
                async with self._looked:
                    await self._looked.wait()
                yield "pulse", json.dumps(self.beat())
        finally:
            self.watchers -= 1

    def beat(self) -> dict[str, Any]:
        """A look, as a page is told of it: whether the node answers, counts, and a mark of each view."""
        status = self.status
        if not status:
            return {"up": False, "why": self.why}
        store = status.get("store") or {}
        return {
            "up": True,
            "node": status.get("node_id"),
            "role": status.get("role"),
            "gateway": (status.get("election") or {}).get("gateway"),
            "row": self.rows[-1].fields(),
            "marks": {
                view: crc32(json.dumps([still(_part(status, part)) for part in parts]).encode())
                for view, parts in VIEWS.items()
            },
            "counts": {
                "overview": len(matters(status)),
                "conflicts": store.get("conflicts") or 0,
                "upkeep": sum(store.get(name) or 0 for name in ("held", "unfit", "quarantined")),
            },
        }


def still(value: Any, name: str = "") -> Any:
    """A status without that which changes while nothing happens; the end of a token to half a minute."""
    if isinstance(value, dict):
        return {key: still(one, key) for key, one in value.items() if key not in QUIET}
    if isinstance(value, list):
        return [still(one) for one in value]
    if name == "token_expires" and value is not None:
        return math.floor((value - time.time()) / 30)
    return round(value, 1) if isinstance(value, float) else value


def _part(status: Mapping[str, Any], path: str) -> Any:
    actor, _, field = path.partition(".")
    return (status.get(actor) or {}).get(field) if field else status.get(actor)


def arrivals(status: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, float]]:
    """Peer and way -> batches that have arrived, and the sum of their ages in seconds."""
    sync, gateway = status.get("sync") or {}, status.get("gateway") or {}
    return {
        (str(peer.get("node_id")), way): (sum(report["counts"]), report["sum"])
        for peer in (*(sync.get("peers") or []), *(gateway.get("links") or []))
        for way, report in (peer.get("propagation") or {}).items()
        if way in WAYS
    }
