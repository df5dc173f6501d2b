"""A node whose clock is off against most of its peers takes no writes of its own until it agrees again.

Stamped by a clock that runs ahead, its writes would be held by everybody else and later win over newer ones;
by one that runs behind, what the others write is held here. The gate does not touch entries that replicate
in.

And when to look for what has expired: a timer to the first moment, and none where nothing expires.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from entgldb.actors.behaviour import INFO, WARNING, Context, refuse
from entgldb.actors.ports import Store
from entgldb.actors.store.auditing.acts import act_of
from entgldb.actors.store.gates.wall_clock import WallClock
from entgldb.messages.administration import AcceptClock
from entgldb.messages.client import Done
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.local.actors import ClockJudged, Tick
from entgldb.messages.schema import Json

BETWEEN_SECONDS: Final = 0.5
"""Between two looks: what expires meanwhile goes together."""
NEXT_SECONDS: Final = 0.02
"""The same while there is more than fits into one look: writers have their turn."""
LOOK_SECONDS: Final = 5.0
"""To the next look at most: the wall clock may be set, or stand still while the machine sleeps."""
VERDICT_SECONDS = 5.0
"""How long a verdict is good: sync, which repeats it every second, may have died."""
CLOCK_OK, OFF, ACCEPTED = "ok", "off", "accepted"


class Shown(NamedTuple):
    """The time of the wall clock; 0 where it is known to be wrong."""

    ms: int
    believed_ms: int
    """The same without a leap that has not lasted yet."""


class ClockGate:
    """Remembers what sync says of the clock, and what an operator says to that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._verdict: ClockJudged | None = None
        self._heard_at = 0.0
        self._accepted = False
        self._wall = WallClock()

    def shown(self, ctx: Context) -> Shown:
        """The time of the wall clock, for those who go by it."""
        if self.state(ctx) == OFF:
            self._wall.is_refuted()
            return Shown(0, 0)
        return Shown(ctx.now_ms(), self._wall.believed_ms(ctx))

    def on_clock_judged(self, verdict: ClockJudged, ctx: Context) -> None:
        """Sync has compared clocks."""
        before = self.state(ctx)
        self._heard_at = ctx.monotonic()
        self._verdict = verdict if verdict.off else None
        self._accepted = self._accepted and verdict.off
        if self.state(ctx) != before:
            level = WARNING if verdict.off else INFO
            ctx.log(level, f"clock {self.state(ctx)}: the peers' are {verdict.offset_ms} ms ahead of ours")

    def on_accept_clock(self, message: AcceptClock, ctx: Context) -> None:
        """An operator says: go on; refused where nothing is to be accepted."""
        try:
            if self.state(ctx) == CLOCK_OK:
                raise InvalidError("the clock of this node is not off against its peers; writes are taken")
            with self._store.group():
                self._store.trail.note(act_of(message, ctx.asker), ctx.now_ms())
        except EntglError as fault:
            refuse(ctx, fault)
            return
        self._accepted = True
        ctx.answer(ctx.asker, Done())

    def state(self, ctx: Context) -> str:
        """``ok``, ``off`` or ``accepted``."""
        if self._verdict is None or ctx.monotonic() - self._heard_at > VERDICT_SECONDS:
            return CLOCK_OK
        return ACCEPTED if self._accepted else OFF

    def refusal(self, ctx: Context) -> EntglError | None:
        """Why an own write is not taken now, or None."""
        if self._verdict is None or self.state(ctx) != OFF:
            return None
        seconds = self._verdict.offset_ms / 1000
        return EntglError(
            f"the clock of this node is off by {abs(seconds):.0f} s: {self._verdict.against} of"
            f" {self._verdict.peers} peers are {'ahead' if seconds > 0 else 'behind'}",
            code=ErrorCode.CLOCK,
            hint="set the clock right, or entgldb clock --accept to write all the same",
        )

    def status(self, high_mark_ms: int, known_ms: int, ctx: Context) -> dict[str, Json]:
        """For ``status`` of the store; ``offset_ms`` is null unless peers disagree.

        ``ahead_ms``: how far our stamps run ahead of what most clocks have shown. Beyond the drift bound the
        others hold what we write.
        """
        return {
            "state": self.state(ctx),
            "offset_ms": None
            if self.state(ctx) == CLOCK_OK or self._verdict is None
            else self._verdict.offset_ms,
            "high_mark_ms": high_mark_ms,
            "behind_mark_ms": max(0, high_mark_ms - ctx.now_ms()),
            "ahead_ms": max(0, high_mark_ms - known_ms),
        }


class Expiry:
    """At most one timer counts."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._generation = 0
        self._hid = False

    def look(self, store: Store, ctx: Context) -> None:
        """Have a timer, if anything expires at all."""
        soonest = store.next_expiry()
        if not soonest:
            return
        left = (soonest - ctx.now_ms()) / 1000
        wait = NEXT_SECONDS if self._hid and left < -BETWEEN_SECONDS else max(BETWEEN_SECONDS, left)
        wait = min(wait, LOOK_SECONDS)
        due = ctx.monotonic() + wait
        if self._due is None or due < self._due:
            self._due = due
            self._generation += 1
            ctx.after(wait, Tick("expire", self._generation))

    def is_due(self, tick: Tick) -> bool:
        """Whether it is the timer that counts."""
        if tick.generation != self._generation:
            return False
        self._due = None
        return True

    def looked(self, hidden: int) -> None:
        """A look has hidden so much."""
        self._hid = hidden > 0
