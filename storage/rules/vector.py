"""Version vectors: origin -> (newest contiguous seq, its header hash)."""

from __future__ import annotations

from collections.abc import Mapping

from entgldb.messages.model import Origin, Vector, Version


def seqs(vector: Mapping[Origin, tuple[int, bytes]]) -> dict[Origin, int]:
    """The vector without its hashes."""
    return {origin: head[0] for origin, head in vector.items()}


def covers(vector: Mapping[Origin, tuple[int, bytes]], version: Version) -> bool:
    """Whether ``version`` has been received."""
    head = vector.get(version.origin)
    return head is not None and head[0] >= version.seq


def missing(ours: Vector, theirs: Mapping[Origin, tuple[int, bytes]]) -> dict[Origin, int]:
    """What we have and they lack: origin -> first seq to send."""
    found = {}
    for origin, (seq, _) in ours.items():
        known = theirs.get(origin)
        first = 1 if known is None else known[0] + 1
        if seq >= first:
            found[origin] = first
    return found


def equal(ours: Vector, theirs: Mapping[Origin, tuple[int, bytes]]) -> bool:
    """Whether nothing is to be sent in either direction."""
    return not missing(ours, theirs) and seqs(ours) == seqs(theirs)
