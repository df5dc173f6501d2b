"""The connections that may stay at a listener: members and strangers have room of their own.

A stranger, which has proved nothing yet, keeps nobody out: the listener lets the newest in, and the oldest
stranger of the busiest address goes. A member is counted by who it is: many come from one address, and one of
them can have as many addresses as it likes.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

from entgldb.messages.limits import LINK_STRANGERS_MAX, LINKS_MAX, LINKS_PER_MEMBER_MAX

NETWORK_BITS: Final = 64
"""The bits of an IPv6 address that count: one site has all addresses of a network (RFC 6177)."""


class Entrance:
    """Counts the links of one listener."""

    def __init__(self, links_max: int = 0) -> None:
        """``links_max``: of links of those who have proved who they are; 0: LINKS_MAX."""
        self._links_max = links_max or LINKS_MAX
        self._members: dict[int, str] = {}
        """Link that has proved who it is, the oldest first -> who."""
        self._strangers: dict[int, str] = {}
        """Those that have proved nothing yet, the oldest first -> what counts as one address."""

    def full(self) -> bool:
        """Whether those who have proved who they are leave no room for one more."""
        return len(self._members) >= self._links_max

    def enter(self, link: int, host: str) -> list[int]:
        """A stranger comes in; the links that have to go for it."""
        self._strangers[link] = place_of(host)
        gone = []
        while len(self._strangers) > LINK_STRANGERS_MAX:
            busiest, _ = Counter(self._strangers.values()).most_common(1)[0]
            gone.append(next(each for each, place in self._strangers.items() if place == busiest))
            self.leave(gone[-1])
        return gone

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


def place_of(host: str) -> str:
    """The name of all addresses that count as one address of a stranger."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address):
        return host
    return f"{int(address) >> (128 - NETWORK_BITS):x}::/{NETWORK_BITS}"
