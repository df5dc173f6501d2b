"""Two nodes' knowledge of one document that merges, joined: what a snapshot does key by key. Pure.

Trees only ever grow, so that joining them is as if all operations had come one by one. Of versions, one
that a side shows and the other does not is either unseen there, and stays, or was named there, and goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from entgldb.messages.model import Version
from entgldb.storage.rules.merging.row import Loser, loser_of
from entgldb.storage.rules.merging.stored import Stored, Tip
from entgldb.storage.rules.merging.tree import held, join, settle


class SideOfKey(NamedTuple):
    """One side's row, its conflicts, and what it has seen."""

    stored: Stored
    conflicts: Mapping[Version, Loser]
    covers: Callable[[Version], bool]

    def shown(self) -> dict[Version, Tip]:
        """All versions that nobody has named, as far as this side knows."""
        newest = (self.stored.newest,) if self.stored.live else ()
        tips = {tip.version: tip for tip in (*newest, *self.stored.tips)}
        return tips | {version: loser.tip for version, loser in self.conflicts.items()}


class Joined(NamedTuple):
    """The row, and all of its conflicts."""

    stored: Stored
    conflicts: dict[Version, Loser]


def join_sides(ours: SideOfKey, theirs: SideOfKey) -> Joined:
    """The knowledge of both sides, joined; the same whoever joins."""
    tree = settle(join(ours.stored.tree, theirs.stored.tree))
    later = max((ours.stored, theirs.stored), key=lambda stored: stored.newest.stamp)
    conflicts: dict[Version, Loser] = {}
    tips = []
    for tip in _open(ours, theirs):
        if tip == later.newest:
            continue
        kept = held(tree, tip.stamp)
        loser, lost = _loss(tip, (ours, theirs), kept)
        if not lost and not kept:
            continue  # it wrote nothing
        if not lost:
            tips.append(tip)
        if lost or not later.live:
            conflicts[tip.version] = loser
    tips.sort(key=lambda tip: tip.stamp, reverse=True)
    return Joined(Stored(later.newest, later.live, tree, tuple(tips)), conflicts)


def _open(ours: SideOfKey, theirs: SideOfKey) -> list[Tip]:
    mine, others = ours.shown(), theirs.shown()
    found = [tip for version, tip in mine.items() if version in others or not theirs.covers(version)]
    return found + [
        tip for version, tip in others.items() if version not in mine and not ours.covers(version)
    ]


def _loss(tip: Tip, sides: tuple[SideOfKey, SideOfKey], left: int) -> tuple[Loser, bool]:
    """A version as a conflict, and whether something that it wrote was overwritten."""
    whole: Loser | None = None
    for side in sides:
        if tip == side.stored.newest or tip in side.stored.tips:
            whole = loser_of(side.stored.tree, tip)
            if left < held(side.stored.tree, tip.stamp):
                return whole, True
    for side in sides:
        kept = side.conflicts.get(tip.version)
        if kept is not None and tip not in side.stored.tips:
            return kept, True
    assert whole is not None  # a version is shown as newest, as a tip or as a conflict
    return whole, False
