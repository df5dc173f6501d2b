"""The machine under a node: its clock against those of its peers, and a certificate that ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.session.clock_watch import ClockWatch, PeerClock, Steps
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.schema import Json

DRIFT_ALARM_MS: Final = 15_000
"""A quarter of the drift bound: there is time to set the clock right before writes are held."""
PEERS_MIN: Final = 2
"""One peer that disagrees does not say who is wrong."""
CERTIFICATE_ALARM_MS: Final = 10 * 24 * 3600 * 1000
"""A node renews its own certificate long before; a server's is renewed by whoever issued it, or is not."""
CLOCK_DRIFT: Final = "clock-drift"
CERTIFICATE: Final = "certificate"


class Machine:
    """Looked at with each heartbeat."""

    def __init__(self) -> None:
        self._alarms, self._watch, self._steps = Alarms(), ClockWatch(), Steps()

    def clock_was_set(self, ctx: Context) -> bool:
        """Whether somebody has set it since the last look."""
        step_ms = self._steps.look(ctx)
        if step_ms:
            ctx.log(WARNING, f"the clock of this node was set by {step_ms / 1000:+.0f} s")
        return bool(step_ms)

    def look(self, clocks: Sequence[PeerClock] | None, good_until_ms: int, ctx: Context) -> None:
        """``clocks`` of the peers; None: those of clients, by which nobody goes. ``good_until_ms`` of the
        certificate, 0: unknown."""
        offsets = [one.offset_ms(ctx) for one in clocks or ()]
        self._say(CLOCK_DRIFT, drifts([one for one in offsets if one is not None]), ctx)
        self._say(CERTIFICATE, ends(good_until_ms, ctx.now_ms()), ctx)
        if clocks is not None:
            self._watch.look(clocks, ctx)

    def report(self) -> list[Json]:
        """The alarms that stand."""
        return self._alarms.report()

    def _say(self, code: str, text: str, ctx: Context) -> None:
        if text:
            self._alarms.sound(code, "", text, ctx.now_ms())
        else:
            self._alarms.clear(code, "")


def drifts(offsets: list[int]) -> str:
    """The text of the alarm where most peers, and at least two, say that our clock is off."""
    ahead = [one for one in offsets if one > DRIFT_ALARM_MS]
    behind = [one for one in offsets if one < -DRIFT_ALARM_MS]
    against = sorted(ahead if len(ahead) > len(behind) else behind)
    if len(against) < PEERS_MIN or 2 * len(against) <= len(offsets):
        return ""
    off = -against[len(against) // 2] / 1000
    return (
        f"this clock is {off:+.0f} s off, by {len(against)} of {len(offsets)} peers;"
        f" beyond {DRIFT_MS_MAX // 1000} s writes are refused: entgldb doctor clock"
    )


def ends(good_until_ms: int, now_ms: int) -> str:
    """The text of the alarm where the certificate ends soon, or has ended."""
    left = good_until_ms - now_ms
    if not good_until_ms or left > CERTIFICATE_ALARM_MS:
        return ""
    when = f"ends in {left / 86_400_000:.1f} days" if left > 0 else "has ended"
    return f"the certificate that this node shows {when}, and was not renewed: entgldb doctor network"
