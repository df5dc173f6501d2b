"""Two nodes show one key differently: which of them is right, or whether nobody can tell.

A node that has taken in both versions keeps the greater, on every node. So where each side's vector
covers the other's version, a difference is no delay but damage, whether or not writes are under way
elsewhere. Nothing is guessed: a difference that these rules do not decide is listed for a person.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from entgldb.messages.model import Vector, Version
from entgldb.messages.wire import Copy
from entgldb.storage.rules.header import MERGE, Header, digest
from entgldb.storage.rules.vector import covers, missing, seqs


class Decision(StrEnum):
    """A node's decision about its own row."""

    EQUAL = "equal"
    TAKE = "take"
    """The other's row is right: it replaces ours."""
    KEEP = "keep"
    """Ours is right: the other side takes it, by the same rule."""
    WAIT = "wait"
    """The log will bring what is missing, or the origin has a fork: no difference yet."""
    UNDECIDED = "undecided"
    """Nobody can tell by rule: a person has to."""


class Side(NamedTuple):
    """One side's row of a key, None where it has none, and what it had taken in when it was read."""

    copy: Copy | None
    vector: Vector
    sound: bool = True
    """The body is the one its digest, and the log's header where it is still there, were made for."""
    time_ms: int = 0
    """This side's time: versions whose moment is not later have expired."""

    def shows(self, copy: Copy) -> bool:
        """Whether a row has a document that has not expired."""
        return copy.body is not None and not 0 < copy.expires <= self.time_ms


def is_sound(copy: Copy, header: Header | None, time_ms: int) -> bool:
    """Whether a row can be what its origin wrote.

    ``header`` is that of its version in the log, None where it is pruned. A body merged from several
    versions (``stamps``), or written by a merge, is in no header. ``time_ms``: nothing later has expired.
    """
    if copy.hidden and copy.expires > time_ms:
        return False
    if (digest(copy.body) if copy.body is not None else b"") != copy.sha256:
        return False
    if header is None:
        return True
    if (header.collection, header.key, header.hlc) != (copy.collection, copy.key, copy.hlc):
        return False
    if header.expires != copy.expires and (header.op != MERGE or copy.expires):
        return False  # a merge that deletes has no moment, whatever its header says
    return copy.hidden or copy.stamps is not None or header.op == MERGE or header.body_sha256 == copy.sha256


def covers_copy(vector: Vector, copy: Copy) -> bool:
    """Whether a vector covers a row's version."""
    return covers(vector, Version(copy.origin, copy.seq))


def decide(mine: Side, theirs: Side) -> Decision:
    """The decision of this side. The other side, asked with the sides exchanged, decides the opposite."""
    if theirs.copy is None:
        return _against_nothing(mine, theirs)
    if _forked(mine, theirs) or not covers_copy(mine.vector, theirs.copy):
        return Decision.WAIT
    if mine.copy is None:
        if not mine.shows(theirs.copy):
            return Decision.EQUAL  # a tombstone that was collected here
        # lost here, or deleted here and the tombstone collected: a node that has all that we have would know
        if missing(mine.vector, theirs.vector):
            return Decision.WAIT
        return Decision.TAKE if theirs.sound else Decision.UNDECIDED
    if (mine.copy.origin, mine.copy.seq) == (theirs.copy.origin, theirs.copy.seq):
        return _same_version(mine, theirs)
    if not covers_copy(theirs.vector, mine.copy):
        return Decision.WAIT
    if _rank(theirs.copy) > _rank(mine.copy):
        return Decision.TAKE if theirs.sound else Decision.UNDECIDED
    return Decision.KEEP if mine.sound else Decision.UNDECIDED


def _rank(copy: Copy) -> tuple[int, str, int]:
    """Last write wins; the clock of an origin grows with its numbers."""
    return copy.hlc, copy.origin, copy.seq


def _against_nothing(mine: Side, theirs: Side) -> Decision:
    """Never a reason to delete ours; the other side may take it."""
    if mine.copy is None or not mine.shows(mine.copy):
        return Decision.EQUAL
    settled = covers_copy(theirs.vector, mine.copy) and not missing(theirs.vector, mine.vector)
    if not settled:
        return Decision.WAIT
    return Decision.KEEP if mine.sound else Decision.UNDECIDED


def _same_version(mine: Side, theirs: Side) -> Decision:
    assert mine.copy is not None and theirs.copy is not None  # noqa: PT018 -- decided by the caller
    if mine.copy.body == theirs.copy.body:
        return Decision.EQUAL
    if mine.sound and theirs.sound and mine.copy.hidden is not theirs.copy.hidden:
        return Decision.EQUAL  # its moment passes here and there within the difference of two clocks
    if mine.sound != theirs.sound:
        return Decision.TAKE if theirs.sound else Decision.KEEP
    merged = mine.copy.stamps is not None or theirs.copy.stamps is not None
    if merged and seqs(mine.vector) != seqs(theirs.vector):
        return Decision.WAIT  # one side has merged a field that is still under way to the other
    return Decision.UNDECIDED


def _forked(mine: Side, theirs: Side) -> bool:
    """Two logs under one name: a fork has its own alarm and its own way out."""
    for side in (mine, theirs):
        if side.copy is not None:
            here, there = mine.vector.get(side.copy.origin), theirs.vector.get(side.copy.origin)
            if here is not None and there is not None and here[0] == there[0] and here[1] != there[1]:
                return True
    return False
