"""The connections that may stay at a listener: members and strangers have room of their own.

A connection waits, at the cost of a socket, until it has sent the first record of TLS and has its turn: so
many strangers at one time are spoken to. The next turn is that of the address of which the fewest are
spoken to, and there of the one that has waited longest. A stranger keeps nobody out: where more wait than
may, the one that has waited longest of the busiest address goes; and a turn ends where somebody of a less
busy address waits, or after some seconds.
A member is counted by who it is: many come from one address, and one of them can have as many addresses as
it likes.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

from entgldb.messages.limits import (
    LINK_STRANGERS_MAX,
    LINK_WAITING_MAX,
    LINKS_MAX,
    LINKS_PER_MEMBER_MAX,
    TENANT_LINKS_WAITING_MAX,
)

NETWORK_BITS: Final = 64
"""The bits of an IPv6 address that count: one site has all addresses of a network (RFC 6177)."""
TURN_SECONDS: Final = 3.0
"""A stranger may have to prove who it is within so many, while others wait."""


class Entrance:
    """Counts the links of one listener."""

    def __init__(self, links_max: int = 0) -> None:
        """``links_max``: of links of those who have proved who they are; 0: LINKS_MAX."""
        self._links_max = links_max or LINKS_MAX
        self._waiting_max = TENANT_LINKS_WAITING_MAX if links_max else LINK_WAITING_MAX
        self._members: dict[int, str] = {}
        """Link that has proved who it is, the oldest first -> who."""
        self._strangers: dict[int, tuple[str, float]] = {}
        """Those that are spoken to and have proved nothing yet, the oldest first -> what counts as one
        address, and since when."""
        self._waiting: dict[int, str] = {}
        """Those that are not spoken to yet, the oldest first -> what counts as one address."""
        self._ready: dict[int, None] = {}
        """Of them those that have sent their first record, in that order."""

    def full(self) -> bool:
        """Whether those who have proved who they are leave no room for one more."""
        return len(self._members) >= self._links_max

    def enter(self, link: int, host: str) -> list[int]:
        """A stranger comes, or is found to be of another address; the links that have to go for it."""
        self._waiting[link] = place_of(host)
        gone = []
        while len(self._waiting) > self._waiting_max:
            busiest, _ = Counter(self._waiting.values()).most_common(1)[0]
            gone.append(next(each for each, place in self._waiting.items() if place == busiest))
            self.leave(gone[-1])
        return gone

    def ready(self, link: int) -> None:
        """It has sent its first record, and waits for its turn."""
        self._ready[link] = None

    def turns(self, now: float) -> tuple[list[int], list[int]]:
        """Those whose turn it is, and the links that have to go for them; ``now``: seconds of any clock."""
        come: list[int] = []
        gone = list(self._ready) if self.full() else []
        for link in gone:
            self.leave(link)
        while self._ready:
            here = Counter(place for place, _ in self._strangers.values())
            link = min(self._ready, key=lambda one: here[self._waiting[one]])
            if len(self._strangers) >= LINK_STRANGERS_MAX:
                over = self._over(here, here[self._waiting[link]], now)
                if over is None:
                    break
                gone.append(over)
                self.leave(over)
            del self._ready[link]
            self._strangers[link] = self._waiting.pop(link), now
            come.append(link)
        return come, gone

    def _over(self, here: Counter[str], newcomers: int, now: float) -> int | None:
        """The stranger whose turn is over, if there is one."""
        busiest, most = here.most_common(1)[0]
        oldest = next(each for each, (place, _) in self._strangers.items() if place == busiest)
        had_its_turn = now - self._strangers[oldest][1] >= TURN_SECONDS
        return oldest if had_its_turn or most > newcomers + 1 else None

    def proved(self, link: int, who: str) -> int | None:
        """It has shown a certificate or a token that counts; the link of the same member that has to go for
        it."""
        if self._strangers.pop(link, None) is None:
            return None
        same = [each for each, other in self._members.items() if other == who]
        self._members[link] = who
        if len(same) < LINKS_PER_MEMBER_MAX:
            return None
        self.leave(same[0])
        return same[0]

    def leave(self, link: int) -> None:
        """It is down. Harmless when repeated."""
        self._members.pop(link, None)
        self._strangers.pop(link, None)
        self._waiting.pop(link, None)
        self._ready.pop(link, None)

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._ready)


def place_of(host: str) -> str:
    """The name of all addresses that count as one address of a stranger."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address):
        return host
    return f"{int(address) >> (128 - NETWORK_BITS):x}::/{NETWORK_BITS}"
