"""Version vectors: origin -> (newest contiguous seq, its header hash)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entgldb.messages.model import Origin, Vector, Version


def seqs(vector: Mapping[Origin, tuple[int, bytes]]) -> dict[Origin, int]:
    """The vector without its hashes."""
    return {origin: head[0] for origin, head in vector.items()}


def covers(vector: Mapping[Origin, tuple[int, bytes]], version: Version) -> bool:
    """Whether ``version`` has been received."""
    head = vector.get(version.origin)
    return head is not None and head[0] >= version.seq


def missing(ours: Vector, theirs: Mapping[Origin, tuple[int, bytes]]) -> dict[Origin, int]:
    """The entries that we have and they lack: origin -> first seq to send."""
    found = {}
    for origin, (seq, _) in ours.items():
        known = theirs.get(origin)
        first = 1 if known is None else known[0] + 1
        if seq >= first:
            found[origin] = first
    return found


def lag(ours: Mapping[Origin, int], theirs: Mapping[Origin, int]) -> int:
    """How many entries of theirs ours does not cover."""
    return sum(max(0, seq - ours.get(origin, 0)) for origin, seq in theirs.items())


def behind(floors: Mapping[Origin, int], theirs: Mapping[Origin, int]) -> bool:
    """Whether somebody lacks entries that a log with these floors does not have any more."""
    return any(theirs.get(origin, 0) < floor for origin, floor in floors.items())


def dominates(ours: Mapping[Origin, int], theirs: Mapping[Origin, int]) -> bool:
    """Whether ``ours`` covers all that ``theirs`` does."""
    return all(ours.get(origin, 0) >= seq for origin, seq in theirs.items())


def covered_by_all(vectors: Iterable[Mapping[Origin, int]]) -> dict[Origin, int]:
    """The entries that all of them cover; at least one vector is needed."""
    first, *others = vectors
    return {origin: min(seq, *(v.get(origin, 0) for v in others), seq) for origin, seq in first.items()}


def covered_by_any(vectors: Iterable[Mapping[Origin, int]]) -> dict[Origin, int]:
    """The entries that any of them covers."""
    found: dict[Origin, int] = {}
    for vector in vectors:
        for origin, seq in vector.items():
            found[origin] = max(seq, found.get(origin, 0))
    return found
