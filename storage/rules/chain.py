"""An entry's place in the chain of its origin. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from entgldb.storage.rules.header import Header


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
