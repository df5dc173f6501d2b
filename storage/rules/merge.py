"""The rules for one entry: first its place in the chain, then its place among the versions of a key.

Both are pure, so that the store, the tests and an independent oracle can be held against each other.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from entgldb.messages.model import Origin
from entgldb.storage.rules.header import PUT, Header


class Link(Enum):
    """How an entry meets the chain of its origin."""

    NEXT = "next"
    KNOWN = "known"
    """At or before the head: a duplicate, or a fork where the recorded hash differs."""
    GAP = "gap"
    FORK = "fork"
    BACKWARDS = "backwards"
    """It links, but its stamp is not greater than the one before."""
    FORKED = "forked"


class Head(NamedTuple):
    """The end of an origin's chain here, held entries included."""

    seq: int
    hash: bytes
    forked: bool = False
    hlc: int = 0
    """Its stamp: the next one is greater, so that the last of several is the greatest."""


NO_HEAD = Head(0, b"")


def link(header: Header, head: Head) -> Link:
    """The place of ``header`` relative to ``head``."""
    if header.seq <= head.seq:
        return Link.KNOWN
    if head.forked:
        return Link.FORKED
    if header.seq > head.seq + 1:
        return Link.GAP
    if header.prev_hash != head.hash:
        return Link.FORK
    return Link.NEXT if header.hlc > head.hlc else Link.BACKWARDS


class Current(NamedTuple):
    """The version a key has now; a tombstone is not ``live``."""

    origin: Origin
    seq: int
    hlc: int
    live: bool
    merged: bool = False
    """Whether it has versions of its fields."""


class Keep(Enum):
    """Which version goes into the conflicts table."""

    NOTHING = "nothing"
    CURRENT = "current"
    INCOMING = "incoming"


class Merge(NamedTuple):
    """The decision about one entry."""

    wins: bool
    """The entry becomes the current version."""
    keep: Keep = Keep.NOTHING
    parent_absent: bool = False


def merge(header: Header, current: Current | None, *, parent_covered: bool) -> Merge:
    """Last write wins by ``(hlc, origin)``; the loser of a concurrent overwrite is kept.

    By causal delivery a parent that is not the current version is exactly a concurrent write. Behind
    held or forked origins the parent may be missing (``parent_covered`` false): then no row is
    kept, since nobody can tell a concurrent write from a successor.
    """
    if current is not None and header.version == (current.origin, current.seq):
        return Merge(wins=False)  # a snapshot has brought it
    absent = header.parent is not None and not parent_covered
    if current is None:
        # its parent may be a rival that outlived a collected tombstone
        return Merge(wins=True, parent_absent=absent)
    wins = (header.hlc, header.origin) > (current.hlc, current.origin)
    # an honest writer stamps what it replaces lower; where one did not, the greatest stamp has to stand on
    # every node, whatever came between the two elsewhere
    if wins and (current.origin, current.seq) in header.named:
        return Merge(wins=True, parent_absent=absent)
    if absent:
        return Merge(wins, parent_absent=True)
    loser_is_live = current.live if wins else header.op == PUT
    keep = Keep.NOTHING if not loser_is_live else Keep.CURRENT if wins else Keep.INCOMING
    return Merge(wins, keep)
