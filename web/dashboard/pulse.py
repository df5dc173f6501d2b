"""Looks at the node now and then, keeps an hour of figures, and tells every page that is open.

A page that nobody looks at costs a look each ``IDLE_SECONDS``.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from entgldb.messages.errors import BusyError, EntglError, NoNodeError
from entgldb.web.dashboard.attention import matters
from entgldb.web.dashboard.hour import Hour

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

BUSY_SECONDS: Final = 2.0
"""Between two looks while a page is open."""
IDLE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 4.0
"""A node that answers nothing for so long does not answer."""
WHY_CHARS_MAX: Final = 200
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
    "nodes": ("sync.members", "sync.peers", "oplog.held_back_by", "election.gateway", "invitation"),
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


class Pulse:
    """The looks at one database."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], float] = time.time,
        invitation: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """``invitation``: what is told of the one that stands; the node itself knows of none."""
        self._db, self._clock, self._invitation = db, clock, invitation
        self.status: dict[str, Any] = {}
        """The newest; empty while the node does not answer."""
        self.why = "not asked yet"
        """Why it does not."""
        self.hour = Hour()
        self.watchers = 0
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
        except Exception as fault:  # noqa: BLE001 -- a bug may cost one look, and not all that are to come
            self._miss(f"{type(fault).__name__}: {fault}"[:WHY_CHARS_MAX])
        self.hour.note(self.status, self._clock())
        async with self._looked:
            self._looked.notify_all()

    def _miss(self, why: str) -> None:
        self.status, self.why = {}, why

    async def newest(self) -> dict[str, Any]:
        """The newest look, which a page that is open has anew at once. Raises NoNodeError."""
        if not self.hour.rows:
            return await self._db.status("node")
        if not self.status:
            raise NoNodeError(f"the node does not answer: {self.why}", hint="entgldb start")
        return self.status

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """Kind and JSON of each event for one page: the hour so far, then each look. Raises BusyError."""
        if self.watchers >= WATCHERS_MAX:
            raise BusyError(f"{WATCHERS_MAX} pages are open", hint="close one, or try again later")
        self.watchers += 1
        self._wake.set()
        try:
            yield "history", json.dumps([row.fields() for row in self.hour.rows])
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
        shown = {**status, "invitation": self._invitation()}
        store = status.get("store") or {}
        return {
            "up": True,
            "node": status.get("node_id"),
            "role": status.get("role"),
            "gateway": (status.get("election") or {}).get("gateway"),
            "row": self.hour.rows[-1].fields(),
            "marks": {
                view: crc32(json.dumps([still(_part(shown, part)) for part in parts]).encode())
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
