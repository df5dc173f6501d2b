"""Whom to dial and when: hints with backoff. A hint is only a hint; TLS decides who answers."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from entgldb.actors.backoff import backoff
from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Links
from entgldb.messages.errors import InvalidError
from entgldb.messages.local.actors import Tick
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import is_address
from entgldb.messages.schema import Json

REDIAL_FIRST, REDIAL_MAX = 0.25, 60.0
"""Seconds of the first and the longest backoff."""
LOOK_MIN, LOOK_MAX = 0.1, 10.0
"""Seconds between two looks at the dials that are due; an event that makes one due looks at once."""
HINTS_MAX = 256
"""Hints kept; the oldest goes first that no node has answered at."""
FAILURES_TOLD_MAX = 32
"""Addresses without an answer of which ``status`` tells."""


@dataclass
class _Hint:
    node_id: str
    """Empty for a seed whose node is not known yet."""
    link: int = 0
    """The number of the dial under way or the open link; 0: none."""
    failures: int = 0
    reason: str = ""
    text: str = ""
    """Of the end of the last dial, or of the last link."""
    not_before: float = 0.0
    worked: bool = False
    """``node_id`` has answered here, by TLS: no hint counts for more."""
    claimed: str = ""
    """The node that listens here by a later hint."""


class Dialler:
    """Keeps at most one dial per address under way."""

    def __init__(self, node_id: str, links: Links, seeds: Iterable[str]) -> None:
        self._me = node_id
        self._links = links
        self.seeds = tuple(seeds)
        self.static: dict[str, str] = {}
        self._hints: dict[str, _Hint] = {}
        self.dialled = self._looks = 0
        """Dials that were begun."""
        self._due = math.inf
        """When the timer that was set last goes off."""

    def found(self, node_id: str, address: str, *, worked: bool = False) -> None:
        """``node_id`` may listen at ``address``; ``worked``: it once did."""
        if node_id == self._me:
            return
        hint = self._hints.setdefault(address, _Hint(node_id, worked=worked))
        if hint.node_id != node_id and hint.worked:
            hint.claimed = node_id
        elif hint.node_id != node_id:
            hint.node_id, hint.failures, hint.not_before = node_id, 0, 0.0
        while len(self._hints) > HINTS_MAX:
            del self._hints[min(self._hints, key=self._worth)]

    def told(self, peers: Mapping[str, str]) -> None:
        """A member of the cluster is linked to these."""
        for node_id, address in peers.items():
            if _plausible(node_id, address):
                self.found(node_id, address)

    def dial(self, connected: set[str], ctx: Context) -> None:
        """Dial every known address that is due and whose node is not connected."""
        for node_id, address in self.static.items():
            self.found(node_id, address)
        for seed in self.seeds:
            self._hints.setdefault(seed, _Hint(""))
        dialling = {hint.node_id for hint in self._hints.values() if hint.link and hint.node_id}
        for address, hint in self._hints.items():
            if hint.link or ctx.monotonic() < hint.not_before or not _wanted(hint, connected | dialling):
                continue
            hint.link = self._links.dial(address)
            self.dialled += 1
            if hint.node_id:
                dialling.add(hint.node_id)

    def tend(self, connected: set[str], wait: float, ctx: Context) -> None:
        """Dial after ``wait`` seconds, where there is nothing to wait for now; a timer looks again."""
        if wait <= 0:
            self.dial(connected, ctx)
            wait = self.due_in(connected, ctx)
        due = ctx.monotonic() + wait
        if due < self._due:  # else the timer that runs looks first; strangers can make this be called at will
            self._looks, self._due = self._looks + 1, due
            ctx.after(wait, Tick("dial", self._looks))

    def is_due(self, tick: Tick) -> bool:
        """Whether it is the last timer that was set, which has gone off."""
        is_last = tick.generation == self._looks
        self._due = math.inf if is_last else self._due
        return is_last

    def due_in(self, connected: set[str], ctx: Context) -> float:
        """Seconds until it is worth calling ``dial`` again."""
        now = ctx.monotonic()
        waiting = [
            hint.not_before - now
            for hint in self._hints.values()
            if not hint.link and _wanted(hint, connected)
        ]
        return min(LOOK_MAX, max(LOOK_MIN, min(waiting, default=LOOK_MAX)))

    def identified(self, node_id: str, link: int) -> None:
        """``node_id`` answers at the address of ``link``, whether or not that link stays."""
        for hint in self._hints.values():
            if hint.link == link:
                hint.node_id, hint.worked, hint.claimed = node_id, node_id != self._me, ""

    def reached(self, node_id: str, link: int) -> None:
        """A session runs over ``link``."""
        for hint in self._hints.values():
            if hint.link == link:
                hint.failures = 0

    def failures(self, connected: set[str], ctx: Context) -> list[Json]:
        """The addresses at which nobody is met although somebody should be, and why; most failures first."""
        rows: list[dict[str, Json]] = [
            {
                "address": address,
                "node_id": hint.node_id,
                "seed": address in self.seeds,
                "worked": hint.worked,
                "failures": hint.failures,
                "reason": hint.reason,
                "text": hint.text,
                "again_in": round(max(0.0, hint.not_before - ctx.monotonic()), 1),
            }
            for address, hint in self._hints.items()
            if hint.failures and _wanted(hint, connected) and hint.node_id != self._me
        ]
        return sorted(rows, key=lambda row: -int(row["failures"]))[:FAILURES_TOLD_MAX]

    def ended(self, link: int, reason: str, ctx: Context, text: str = "") -> None:
        """``link`` is closed or could not be opened."""
        for address, hint in list(self._hints.items()):
            if hint.link != link:
                continue
            hint.link = 0
            hint.failures, hint.reason, hint.text = hint.failures + 1, reason, text
            if hint.node_id == self._me and address not in (*self.seeds, *self.static.values()):
                del self._hints[address]  # our own
                continue
            wait = backoff(hint.failures, REDIAL_FIRST, REDIAL_MAX, ctx.random)
            hint.not_before = ctx.monotonic() + wait

    def _worth(self, address: str) -> bool:
        """Whether the hint is worth keeping: a hint that is not makes room first, of equals the oldest."""
        hint = self._hints[address]
        return hint.worked or bool(hint.link) or address in self.seeds or address in self.static.values()

    def forget_backoff(self) -> None:
        """Dial everything now."""
        for hint in self._hints.values():
            hint.failures, hint.not_before = 0, 0.0


def _wanted(hint: _Hint, met: Container[str]) -> bool:
    """Whether somebody may answer there who is not met yet; of a seed nobody knows who."""
    return hint.node_id not in met or (bool(hint.claimed) and hint.claimed not in met)


def _plausible(node_id: str, address: str) -> bool:
    try:
        check_node_id(node_id)
    except InvalidError:
        return False
    return is_address(address)
