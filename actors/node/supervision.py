"""A supervisor's record of a process, and the rule by which it ends one that hangs. It ends nothing itself.

An actor that has nothing to do turns its loop every ``BEAT_SECONDS`` all the same. One that does not is
ended when it is stopped, sleeps, or has used the processor for so long. It is not ended while it waits for
the disk (as the kernel says), in a step that it has named beforehand, or because a busy machine gives it no
time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from entgldb.actors.backoff import backoff
from entgldb.actors.behaviour import Life
from entgldb.messages.schema import Json

BEAT_SECONDS: Final = 4.0
"""An actor turns its loop at least so often."""
HANG_SECONDS: Final = 5.0
"""Without a turn beyond its beat, or of processor time without a turn: then it hangs."""
STEP_SECONDS_MAX: Final = 3600.0
"""A step that was named beforehand may take so long."""
START_SECONDS_MAX: Final = 30.0
"""How long an actor that is started may turn its loop without the word that it serves."""
LATE_SECONDS: Final = 4.0
"""A supervisor that has not looked for so long was held up itself: nobody is judged by that time."""
RESTARTS_MAX: Final = 5
RESTARTS_SECONDS: Final = 60.0
"""More restarts than that within that time are told as ``degraded``."""
BACKOFF_FIRST: Final = 0.02
"""Seconds before a child that died is started again; doubles with every death."""
BACKOFF_MAX: Final = 5.0
HEALTHY_AFTER: Final = 60.0
"""Seconds a child must have served for its backoff to begin anew, and to be degraded no more."""
ABOVE: Final = {
    "launcher": "nobody would start the node actor again, and stop and reload wait",
    "admin": "ask and tell have no answer, and the node actor could not be started again",
}
"""The processes from which the node actor descends, and what is missing while one is stopped."""
STOPPED, ON_DISK, ASLEEP = "Tt", "D", "S"
"""States of proc(5)."""


class Watched:
    """One process that has to move."""

    def __init__(self) -> None:
        self._moved_at = self._looked_at = 0.0
        self._seen = Life()
        self._cpu = 0.0
        """Seconds of processor time that it had used when it last moved."""
        self._turns_since = 0.0
        """Since when it has been seen to turn its loop, look after look."""
        self.waits_for = ""
        """The reason why it may stand still for longer than others: a step that it has named, or the disk."""

    def begin(self, now: float) -> None:
        """It was started."""
        self._moved_at = self._looked_at = self._turns_since = now
        self._seen, self._cpu = Life(turns=-1), 0.0

    def still(self, now: float) -> float:
        """Seconds for which it has not moved, beyond its beat."""
        return max(0.0, now - self._moved_at - BEAT_SECONDS)

    def hangs(self, life: Life, now: float) -> str:
        """Look at it, at least every LATE_SECONDS; why it has to be ended, or empty."""
        late, before = now - self._looked_at > LATE_SECONDS, self._seen
        self._looked_at, self._seen = now, life
        if late or life.turns != before.turns:
            self._moved_at, self._cpu = now, life.cpu
        still = self.still(now)
        if late or still or not life.state:
            self._turns_since = now
        self.waits_for = ""
        if still < HANG_SECONDS or not life.state:
            return ""
        if life.state in STOPPED:
            return f"is stopped and has not moved for {still:.0f} s"
        if life.state == ON_DISK or (life.step and still < STEP_SECONDS_MAX):
            self.waits_for = life.step or "the disk"
            return ""
        if life.step:
            return f"has been in one step ({life.step}) for {still:.0f} s"
        if life.cpu - self._cpu >= HANG_SECONDS:
            return f"goes round in circles and has not turned its loop for {still:.0f} s"
        if life.state == ASLEEP and before.state == ASLEEP and life.cpu == before.cpu:
            return f"sleeps and has not turned its loop for {still:.0f} s"
        return ""


class Above:
    """A process above the node actor. It is ended by nobody here: all actors would end with it."""

    def __init__(self) -> None:
        self._since: float | None = None

    def stopped_for(self, life: Life, now: float) -> float:
        """Seconds for which each look has found it stopped; 0 where it runs."""
        if not life.state or life.state not in STOPPED:
            self._since = None
            return 0.0
        self._since = now if self._since is None else self._since
        return now - self._since


class Child(Watched):
    """The node actor's record of one child."""

    def __init__(self) -> None:
        super().__init__()
        self.up = False
        self.pid = 0
        self.restarts = 0
        self.facts: dict[str, Json] = {}
        self.degraded = False
        """It died too often; it is started again all the same, and the others go on."""
        self._ready_at = 0.0
        self._deaths_in_a_row = 0
        self._deaths: deque[float] = deque(maxlen=RESTARTS_MAX + 1)

    def serves(self, pid: int, facts: dict[str, Json], now: float) -> None:
        """It said Ready."""
        self.up, self.pid, self.facts, self._ready_at = True, pid, facts, now

    def died(self, now: float) -> float:
        """It is gone; the seconds after which to start it again."""
        self._deaths_in_a_row = 1 if self.healthy(now) else self._deaths_in_a_row + 1
        self._deaths.append(now)
        self.up, self.pid = False, 0
        self.restarts += 1
        recent = [at for at in self._deaths if now - at <= RESTARTS_SECONDS]
        self.degraded = self.degraded or len(recent) > RESTARTS_MAX
        return backoff(self._deaths_in_a_row, BACKOFF_FIRST, BACKOFF_MAX)

    def healthy(self, now: float) -> bool:
        """Whether it has served for long."""
        return self.up and now - self._ready_at >= HEALTHY_AFTER

    def hangs(self, life: Life, now: float) -> str:
        """As Watched; and whoever is told to begin has to serve one day."""
        self.degraded = self.degraded and not self.healthy(now)
        why = super().hangs(life, now)
        if not self.up and now - self._turns_since >= START_SECONDS_MAX:
            return f"has turned its loop for {START_SECONDS_MAX:.0f} s and does not serve"
        return why
