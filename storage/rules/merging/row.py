"""One key as the join of all writes to it: ``absorb``, ``join``, ``without``. Pure.

A document of which the last write wins is a tree with one leaf, so that one rule serves both kinds.

Every entry says by its op code what it means, whatever the receiver's setting of the collection is:

- *put*: all that was there is gone, and this body stands there instead;
- *delete*: all that was there is gone;
- *merge*: the leaves in its ``change``, or (``delete``) a delete that keeps the leaves, so that a
  concurrent later edit finds the document whole.

A document is deleted where its greatest version is a delete of either kind.

An entry may say from which moment on its version is shown by nobody: it *expires*. A row expires with its
greatest version. That changes what is shown, never what is merged: whoever keeps a row or a conflict hides it
when its moment has passed, and what a row hides with its greatest version is then a conflict, as if that were
a delete. A put that expires leaves
nothing but its version, as a delete does. So a merge above it finds its fields on no node, whether it came
before that moment or after.

*Conflicts*: a version is one if no other version names it (as ``parent`` or in ``seen`` of its header), and
a leaf that it wrote was overwritten, or the document is deleted or has expired. Nobody has named it, so
whoever overwrote it did so without knowing it. A version that wrote no leaf has none to lose, and is no
conflict: a tombstone that knew of one may be collected here and not there. All of this is a function of the
set of operations and of the time alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from functools import reduce
from typing import Any, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import DEPTH_MAX, MERGE_BYTES_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.rules.body import check_object
from entgldb.storage.rules.merging.accumulating import goes_on
from entgldb.storage.rules.merging.changes import check_change, plant, whole
from entgldb.storage.rules.merging.stored import Stored, Tip
from entgldb.storage.rules.merging.tree import (
    GONE,
    OWN,
    REMOVED,
    TAG,
    FieldChange,
    Stamp,
    Tree,
    part,
    render,
    settle,
    stamps,
    text_of,
    union,
)


class Merging(NamedTuple):
    """The body of an entry with op code MERGE."""

    change: FieldChange = {}
    delete: bool = False
    over: Stamp | None = None
    """The stamp of the delete over which the merge was written: the delete takes all older leaves."""

    def encode(self) -> bytes:
        """The body's bytes. Raises TooLargeError."""
        fields: dict[str, Any] = {"change": self.change}
        if self.delete:
            fields["delete"] = 1
        if self.over is not None:
            fields["over"] = self.over
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > MERGE_BYTES_MAX:
            raise TooLargeError(
                f"the changed fields take {len(text)} bytes, {MERGE_BYTES_MAX} allowed",
                hint="write fewer of them at once, or set the collection to lww",
            )
        return text


class Current(NamedTuple):
    """The newest version of a row, without what the row shows; a tombstone is not ``live``."""

    origin: Origin
    seq: int
    hlc: int
    live: bool
    merged: bool = False
    """Whether it has versions of its fields."""

    def yields_to(self, stamp: Stamp, named: Collection[Version]) -> bool:
        """Whether a put or delete replaces it, and nothing that its writer did not know."""
        if self.merged or stamp <= (self.hlc, self.origin):
            return False
        return not self.live or (self.origin, self.seq) in named


class Operation(NamedTuple):
    """An entry as the rule sees it."""

    row: Stored
    """The row of a key that nobody else has written to."""
    named: frozenset[Version]


class Loser(NamedTuple):
    """A version whose change was overwritten by one that did not know it."""

    tip: Tip
    text: str
    """A document where the version wrote the document whole, else the text of a change."""
    whole: bool


class Absorbed(NamedTuple):
    """The row after an operation, and the effect on its conflicts."""

    stored: Stored
    losers: tuple[Loser, ...] = ()
    """To be kept as conflicts."""
    restored: tuple[Tip, ...] = ()
    """No conflicts any more: the delete over them, or what had expired, was itself overwritten."""


def read_merging(body: bytes | str, stamp: Stamp) -> Merging:
    """The body of a merge stamped ``stamp``. Raises InvalidError or TooLargeError."""
    data = body.encode() if isinstance(body, str) else body
    fields = check_object(data, MERGE_BYTES_MAX, DEPTH_MAX + 2)
    over = fields.get("over")
    if over is not None:
        if not (type(over) is list and len(over) == 2 and type(over[0]) is int and type(over[1]) is str):
            raise InvalidError("a merge has a bad over")
        over = (over[0], over[1])
        if over >= stamp:
            raise InvalidError("a merge is older than what it was written over")
    change: FieldChange = fields.get("change", {})
    check_change(change, DEPTH_MAX + 1, stamp)
    if any(item != GONE and item[0] != "." for item in change):
        raise InvalidError("a document is an object, not an array")
    return Merging(change, fields.get("delete") == 1, over)


def operation(tip: Tip, named: frozenset[Version], merging: Merging) -> Operation:
    """A merge as the rule sees it."""
    tip = tip._replace(expires=0) if merging.delete else tip
    tree = settle(plant(merging.change, tip.stamp, merging.over))
    if tip.expires:
        # its leaves stay when it has expired, so they stand in a tree from the beginning
        return Operation(Stored(tip, True, tree), named)
    if tree.get(OWN) == (tip.stamp, REMOVED) and (len(tree) == 1 or not merging.delete):
        return put_operation(tip, named, None if merging.delete else text_of(render(tree)))
    return Operation(Stored(tip, not merging.delete, tree), named)


def put_operation(tip: Tip, named: frozenset[Version], text: str | None) -> Operation:
    """A put, or (None) a delete, of the whole document."""
    return Operation(Stored(tip, text is not None, text=text), named)


def absorb(before: Stored | None, one: Operation, *, superseded: bool = False, time_ms: int = 0) -> Absorbed:
    """The row after ``one``; ``superseded``: a version that names ``one`` came before it.

    ``time_ms``: versions whose moment is not later have expired.
    """
    made, tip = one.row, one.row.newest
    if before is None:
        return Absorbed(made)
    row = _together(before, made)
    known = (before.newest, *before.tips) if before.live else before.tips
    unnamed = [tip for tip in known if tip.version not in one.named]
    if not unnamed and tip.stamp > before.newest.stamp and not (made.fields and goes_on(made.fields)):
        # its writer knew all that is here: the ordinary case
        return Absorbed(row)
    losers = [loser_of(before, tip) for tip in unnamed if _lost(before, row, tip)]
    gone = {loser.tip for loser in losers}
    if made.live and not superseded and tip not in known:
        if _lost(made, row, tip):
            losers.append(loser_of(made, tip))
        else:
            unnamed.append(tip)
    left = _tips(row, (tip for tip in unnamed if tip not in gone))
    shows = row.shows(time_ms)
    if not shows:
        losers += [loser_of(row, tip) for tip in left]
    restored = left if shows and not before.shows(time_ms) else ()
    return Absorbed(row._replace(tips=left), tuple(losers), restored)


class Side(NamedTuple):
    """One node's knowledge of a key: its row, its conflicts, and which versions it has seen."""

    row: Stored | None
    conflicts: Mapping[Version, Loser]
    covers: Callable[[Version], bool]

    def shown(self) -> dict[Version, Tip]:
        """All versions that nobody has named, as far as this side knows."""
        known = [loser.tip for loser in self.conflicts.values()]
        if self.row is not None:
            known += [self.row.newest, *self.row.tips] if self.row.live else self.row.tips
        return {tip.version: tip for tip in known}

    def standing(self, other: Side) -> Stored | None:
        """The row, unless the other side has seen it, and has deleted it since and forgotten that."""
        row = self.row
        gone = row is None or (other.row is None and row.shown and other.covers(row.newest.version))
        return None if gone else row


class Joined(NamedTuple):
    """The row, and all of its conflicts."""

    row: Stored | None
    conflicts: dict[Version, Loser]


def join(ours: Side, theirs: Side, time_ms: int = 0) -> Joined:
    """The knowledge of both sides; the same whoever joins, as if all operations had come one by one.

    A version that one side shows and the other does not is either unseen there, and stays, or was named
    there, and goes.
    """
    sides = ours, theirs
    rows = [row for row in (ours.standing(theirs), theirs.standing(ours)) if row is not None]
    open_ = _open(ours, theirs)
    if not rows:
        losers = sorted((_loser(tip, sides) for tip in open_), key=lambda loser: loser.tip.stamp)
        risen = any(side.row is not None for side in sides)
        return _risen(losers) if risen else Joined(None, {loser.tip.version: loser for loser in losers})
    row = rows[0] if len(rows) == 1 else _together(*rows)
    conflicts, left = {}, []
    for tip in open_:
        lost = _is_lost(tip, sides, row)
        if tip == row.newest and not lost:
            continue
        if not lost and not _stands(row, tip):
            continue  # it wrote nothing
        if not lost:
            left.append(tip)
        if lost or not row.shows(time_ms):
            conflicts[tip.version] = _loser(tip, sides)
    return Joined(row._replace(tips=_tips(row, left)), conflicts)


NOBODY = Tip("", 0, -1)
"""The newest version of a row of which nobody is known to have written what is left."""


def without(row: Stored, gone: Collection[Stamp]) -> Stored | None:
    """The row without all that was written at the stamps ``gone``; None where nothing is left.

    Leaves that those writes had hidden are not in it: absorb them again from the log.
    """
    if row.fields is None:
        return None if row.newest.stamp in gone else row
    tips = tuple(tip for tip in row.tips if tip.stamp not in gone)
    fields = part(row.fields, lambda stamp: stamp not in gone)
    if row.newest.stamp not in gone:
        return row._replace(fields=fields, tips=tips)
    if not tips and not fields:
        return None
    return Stored(tips[0] if tips else NOBODY, bool(tips), fields, tips[1:])


def refolded(
    before: Stored,
    operations: Sequence[Operation],
    gone: Collection[Stamp],
    settled: Set[Version],
    time_ms: int = 0,
) -> tuple[Stored | None, list[Loser]]:
    """A row and its conflicts without what was written at ``gone``; ``operations``: what the log still has.

    The row may stand for operations that the log has no more; ``settled``: versions that one of those named.
    """
    rest = without(before, gone)
    rows = [one.row for one in operations] + ([] if rest is None else [rest])
    named = settled | {version for one in operations for version in one.named}
    if settled and all(row.fields is None for row in rows):
        # one of them could be the greatest that is left, and would stand again
        rows = [row for row in rows if row is rest or row.newest.version not in named]
    row = reduce(_together, rows) if rows else None
    if row is None or row.newest == NOBODY:
        return None, []
    wrote = {tip: one for one in reversed(rows) if one.live for tip in (*one.tips, one.newest)}
    losers = [
        loser_of(one, tip) for tip, one in wrote.items() if tip.version not in named and _lost(one, row, tip)
    ]
    gone_over = {loser.tip for loser in losers}
    left = _tips(row, (tip for tip in wrote if tip.version not in named and tip not in gone_over))
    if not row.shows(time_ms):
        losers += [loser_of(row, tip) for tip in left]
    return row._replace(tips=left), losers


def loser_of(row: Stored, tip: Tip) -> Loser:
    """The content that a version wrote, from a row in which none of it is overwritten."""
    if row.fields is None:
        return Loser(tip, row.text or "{}", True)
    found = part(row.fields, tip.stamp.__eq__)
    if found.get(OWN) is not None:
        return Loser(tip, text_of(render(found, partial=True)), True)
    return Loser(tip, text_of(lifted(found)), False)


def lifted(tree: Tree) -> FieldChange:
    """A tree without its stamps: the change that made it."""
    change: FieldChange = {}
    for item, node in tree.items():
        if type(node) is dict:
            change[item] = lifted(node)
        elif item == OWN:
            change[GONE] = 1
        elif item[0] == TAG:
            change.update({item: node[0][0]} if node[1] is REMOVED else {TAG: 1})
        else:
            change[item] = {GONE: 1} if node[1] is REMOVED else node[1]
    return change


def _together(ours: Stored, theirs: Stored) -> Stored:
    """The leaves of both, without tips."""
    later = max(ours, theirs, key=lambda row: (row.newest.stamp, row.fields is None))
    if later.fields is None:
        return later
    return Stored(later.newest, later.live, settle(union(_below(ours), _below(theirs))))


def _below(row: Stored) -> Tree:
    """The leaves that a row leaves to a merge above it."""
    return plant(whole({}), row.newest.stamp) if goes_whole(row) else row.tree


def goes_whole(row: Stored) -> bool:
    """Whether it is a put that expires: then nothing of it is left, and a merge above it finds nothing."""
    return row.fields is None and row.newest.expires > 0


def _count(row: Stored, tip: Tip) -> int:
    return stamps(row.tree, {}).get(tip.stamp, 0)


def _stands(row: Stored, tip: Tip) -> bool:
    """Whether a row has something that a version wrote."""
    return tip == row.newest if row.fields is None else _count(row, tip) > 0


def _lost(before: Stored, after: Stored, tip: Tip) -> bool:
    """Whether something of what a version had written into the row is overwritten."""
    if after.fields is None:
        return tip != after.newest and _stands(before, tip)
    if goes_whole(before):
        return tip == before.newest
    return _count(after, tip) < _count(before, tip)


def _tips(row: Stored, open_: Iterable[Tip]) -> tuple[Tip, ...]:
    found = {tip for tip in open_ if tip != row.newest and _stands(row, tip)}
    return tuple(sorted(found, key=lambda tip: tip.stamp, reverse=True))


def _open(ours: Side, theirs: Side) -> list[Tip]:
    mine, others = ours.shown(), theirs.shown()
    found = [tip for version, tip in mine.items() if version in others or not theirs.covers(version)]
    return found + [
        tip for version, tip in others.items() if version not in mine and not ours.covers(version)
    ]


def _in_row(side: Side, tip: Tip) -> bool:
    return side.row is not None and tip in (side.row.newest, *side.row.tips)


def _is_lost(tip: Tip, sides: tuple[Side, Side], row: Stored) -> bool:
    for side in sides:
        if side.row is not None and _in_row(side, tip) and _lost(side.row, row, tip):
            return True
        if tip.version in side.conflicts and (side.row is None or tip not in side.row.tips):
            return True
    return False


def _loser(tip: Tip, sides: tuple[Side, Side]) -> Loser:
    """A version as a conflict, from a side that has all of it."""
    for side in sides:
        if side.row is not None and _in_row(side, tip):
            return loser_of(side.row, tip)
    return next(side.conflicts[tip.version] for side in sides if tip.version in side.conflicts)


def _risen(losers: Iterable[Loser]) -> Joined:
    """The document is deleted where its rivals are not known: they win there as soon as they come."""
    row: Stored | None = None
    conflicts: dict[Version, Loser] = {}
    for tip, text, is_whole in losers:
        one = put_operation(tip, frozenset(), text)
        if not is_whole:
            one = operation(tip, frozenset(), Merging(json.loads(text)))
        after = absorb(row, one)
        row = after.stored
        conflicts |= {loser.tip.version: loser for loser in after.losers}
    return Joined(row, conflicts)
