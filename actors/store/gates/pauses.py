"""Links that an operator has paused: kept in the file, ended by time without trust in the wall clock.

While the store runs, a pause is counted by the clock that nobody sets. Over a restart the rest of it is known
from the last note, one a minute, and from the wall clock: the smaller counts. So a clock that is set back, or
begins at 1970 with each start, makes no pause longer than a minute for each restart; one that is set ahead
while the node is down ends it early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from entgldb.actors.behaviour import ERROR, INFO, WARNING, Context, refuse
from entgldb.actors.ports import Store
from entgldb.actors.store.auditing.acts import act_of
from entgldb.messages.administration import PauseSync
from entgldb.messages.client import Report
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import PAUSE_SECONDS_MAX
from entgldb.messages.local.actors import Tick
from entgldb.messages.local.pauses import Pause, PausesChanged
from entgldb.messages.schema import Json
from entgldb.storage.audit.rows import Act

KINDS: Final = {"lan": ("lan", "cloud"), "cloud": ("cloud",)}
"""Role of a node -> its kinds of links."""
NOTE_SECONDS: Final = 60.0
"""Between two notes of how much is left."""
PAUSE: Final = "pause"


@dataclass
class _Running:
    since_ms: int
    ends_at: float
    """By ``since_boot``; infinite: when it is ended."""


class Pauses:
    """Of one node; a part of the store."""

    def __init__(self, store: Store, role: str) -> None:
        self._store = store
        self._kinds = KINDS[role]
        self._running: dict[str, _Running] = {}
        self._generation = 0

    def start(self, ctx: Context) -> None:
        """Go on with those that the file knows."""
        for what, kept in self._store.pauses().items():
            left = math.inf
            if kept["until_ms"] is not None:
                left = min(kept["left"], (kept["until_ms"] - ctx.now_ms()) / 1000)
            if left > 0:
                self._running[what] = _Running(kept["since_ms"], ctx.since_boot() + left)
            else:
                ctx.log(INFO, f"the pause of {what} sync is over")
        self._changed(ctx)

    def on_pause_sync(self, message: PauseSync, ctx: Context) -> None:
        """Begin, change or end one; what cannot be kept in the file is refused and does not begin."""
        before = dict(self._running)
        try:
            self._check(message)
            if message.paused:
                self._running[message.what] = self._begun(message, ctx)
            else:
                self._running.pop(message.what, None)
            self._note(ctx, act_of(message, ctx.asker))
        except EntglError as fault:
            self._running = before
            refuse(ctx, fault)
            return
        ctx.log(
            WARNING, f"sync of {message.what} is {'paused' if message.paused else 'resumed'} by an operator"
        )
        self._changed(ctx)
        ctx.answer(ctx.asker, Report({"pauses": self.report(ctx)}))

    def tick(self, message: Tick, ctx: Context) -> None:
        """The time that was waited for has passed."""
        if message.generation != self._generation:
            return
        over = [what for what, one in self._running.items() if one.ends_at <= ctx.since_boot()]
        for what in over:
            del self._running[what]
            ctx.log(INFO, f"the pause of {what} sync is over")
        try:
            self._note(ctx)
        except EntglError as fault:
            ctx.log(ERROR, f"how long sync is still paused cannot be noted: {fault.text}")
        if over:
            self._changed(ctx)
        else:
            self._wait(ctx)

    def report(self, ctx: Context) -> list[Json]:
        """``[{"what", "since_ms", "until_ms", "left"}]``; ``left`` in seconds, null: until it is ended."""
        left = self._left(ctx)
        return [
            {"what": one.what, "since_ms": one.since_ms, "until_ms": one.until_ms, "left": left[one.what]}
            for one in self._told(ctx).pauses
        ]

    def _check(self, message: PauseSync) -> None:
        if message.what not in self._kinds:
            known = " or ".join(self._kinds)
            raise InvalidError(f"{message.what:.40} is nothing that this node can pause; it has {known}")
        if not 0 <= message.seconds <= PAUSE_SECONDS_MAX:
            raise InvalidError(f"a pause is at most {PAUSE_SECONDS_MAX / 86_400:.0f} days long")

    def _begun(self, message: PauseSync, ctx: Context) -> _Running:
        ends_at = ctx.since_boot() + message.seconds if message.seconds else math.inf
        running = self._running.get(message.what)
        return _Running(ctx.now_ms() if running is None else running.since_ms, ends_at)

    def _left(self, ctx: Context) -> dict[str, float | None]:
        now = ctx.since_boot()
        ends = {what: one.ends_at - now for what, one in self._running.items()}
        return {what: None if left == math.inf else round(max(0.0, left), 1) for what, left in ends.items()}

    def _told(self, ctx: Context) -> PausesChanged:
        found = []
        for what, left in sorted(self._left(ctx).items()):
            until = None if left is None else ctx.now_ms() + int(left * 1000)
            found.append(Pause(what, self._running[what].since_ms, until))
        return PausesChanged(tuple(found))

    def _note(self, ctx: Context, act: Act | None = None) -> None:
        with self._store.group():
            self._store.keep_pauses({row["what"]: row for row in self.report(ctx)})
            if act is not None:
                self._store.trail.note(act, ctx.now_ms())

    def _changed(self, ctx: Context) -> None:
        ctx.tell("node", self._told(ctx))
        self._wait(ctx)

    def _wait(self, ctx: Context) -> None:
        """To the next end, or the next note."""
        self._generation += 1
        left = [seconds for seconds in self._left(ctx).values() if seconds is not None]
        if left:
            ctx.after(min(NOTE_SECONDS, *left, NOTE_SECONDS), Tick(PAUSE, self._generation))
