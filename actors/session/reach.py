"""Which cloud peers this node reaches: by a link that is open or was lately, or by a probe of its own.

A gateway that reaches none is no use however well it ranks, and one whose way out comes and goes must not
make the cluster change with it. So reach outlives a link for a while, and who has lost it as gateway must
prove it several times before it counts again, each time twice as often (the hysteresis).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from entgldb.actors.backoff import backoff

REACHED_SECONDS: Final = 45.0
"""How long reach outlives a link, or a good probe."""
PROOF_SECONDS: Final = 15.0
"""Between two probes of one who has to prove it; several good ones in a row fit into REACHED_SECONDS."""
IN_VAIN_SECONDS_MAX: Final = 60.0
"""The same after several that were in vain: each asks the authority for a token."""
PROVED_SECONDS_MAX: Final = 240.0
"""The same for one that was proved long since: while another cloud is away it is asked for ever."""
PROOFS_FIRST: Final = 2
PROOFS_MAX: Final = 32
"""Good probes in a row from one who has lost its reach as gateway: at first, and at most."""
STEADY_SECONDS: Final = 600.0
"""A link that was open for so long makes the gateway forget earlier losses."""


class _Way:
    """To one cloud peer."""

    def __init__(self) -> None:
        self.reached_at: float | None = None
        self.lasts = REACHED_SECONDS
        self.open_since: float | None = None
        self.needed = 1
        self.proved = 0
        self.in_vain = 0
        self.not_before = 0.0


class Reach:
    """Of one node; times are those of its monotonic clock."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way] = {}

    def look(self, peers: Iterable[str], linked: Iterable[str], now: float) -> None:
        """``peers``: those that should be reached now; ``linked``: those with an open link."""
        self._ways = {name: self._ways.get(name) or _Way() for name in peers}
        for name in set(linked) & self._ways.keys():
            way = self._ways[name]
            way.open_since = now if way.open_since is None else way.open_since
            way.reached_at, way.lasts = now, REACHED_SECONDS
            if now - way.open_since >= STEADY_SECONDS:
                way.needed = 1
        for name in self._ways.keys() - set(linked):
            self._ways[name].open_since = None

    def lost(self, now: float) -> None:
        """As gateway: a cloud peer that is not reached any more has to be proved more often than the last
        time."""
        for way in self._ways.values():
            if way.reached_at is not None and now - way.reached_at > way.lasts:
                way.reached_at, way.proved = None, 0
                way.needed = min(PROOFS_MAX, max(PROOFS_FIRST, 2 * way.needed))

    def probed(self, name: str, now: float, *, good: bool) -> None:
        """A probe has ended."""
        way = self._ways.get(name)
        if way is None:
            return
        way.proved = way.proved + 1 if good else 0
        way.in_vain = 0 if good else way.in_vain + 1
        wait = _wait(way)
        way.not_before = now + wait
        if good and way.proved >= way.needed:
            way.reached_at, way.lasts = now, wait + REACHED_SECONDS
        elif not good and way.open_since is None:
            way.reached_at = None

    def may_probe(self, name: str, now: float) -> bool:
        """Whether it is time again."""
        return name in self._ways and now >= self._ways[name].not_before

    def count(self, now: float) -> int:
        """Peers that count as reached."""
        ways = self._ways.values()
        return sum(way.reached_at is not None and now - way.reached_at <= way.lasts for way in ways)


def _wait(way: _Way) -> float:
    """Seconds until the next probe may be made; who asks for proofs does so every PROOF_SECONDS."""
    if way.in_vain:
        return backoff(way.in_vain, PROOF_SECONDS, IN_VAIN_SECONDS_MAX)
    more = way.proved - way.needed
    return backoff(more + 1, PROOF_SECONDS, PROVED_SECONDS_MAX) if more > 0 else 0.0
