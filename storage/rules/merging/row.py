"""The effect of an operation on a document with field versions. Pure.

Every entry says by its op code what it means, whatever the receiver's setting of the collection is:

- *put*: all that was there is gone, and this body stands there instead;
- *delete*: all that was there is gone;
- *merge*: the leaves in its ``change``, or (``delete``) a delete that keeps the leaves, so that a
  concurrent later edit finds the document whole.

A document is deleted where its greatest version is a delete of either kind.

*Conflicts*: a version is one if no other version names it (as ``parent`` or in ``seen`` of its header), and
a leaf that it wrote was overwritten, or the document is deleted. Nobody has named it, so whoever overwrote
it did so without knowing it. A version that wrote no leaf has none to lose, and is no conflict: a tombstone
that knew of one may be collected here and not there. All of this is a function of the set of operations
alone.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import DEPTH_MAX, MERGE_BYTES_MAX
from entgldb.messages.model import Version
from entgldb.storage.rules.body import check_object
from entgldb.storage.rules.merging.changes import Change, check_change, plant, text_of, whole
from entgldb.storage.rules.merging.stored import Stored, Tip
from entgldb.storage.rules.merging.tree import OWN, REMOVED, Stamp, Tree, held, join, only, render, settle


class Merging(NamedTuple):
    """The body of an entry with op code MERGE."""

    change: Change = {}
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


class Operation(NamedTuple):
    """An entry as the merge sees it."""

    tip: Tip
    delete: bool
    tree: Tree
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
    """No conflicts any more: the delete over them was itself overwritten."""


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
    change: Change = fields.get("change", {})
    check_change(change, DEPTH_MAX + 1)
    if any(item in ("{", "[", "=") or item[:1] == "#" for item in change):
        raise InvalidError("a document is an object, not an array")
    return Merging(change, fields.get("delete") == 1, over)


def operation(tip: Tip, named: frozenset[Version], merging: Merging) -> Operation:
    """A merge as the rule sees it."""
    return Operation(tip, merging.delete, plant(merging.change, tip.stamp, merging.over), named)


def put_operation(tip: Tip, named: frozenset[Version], document: dict[str, Any] | None) -> Operation:
    """A put, or (None) a delete, of the whole document."""
    change = whole({} if document is None else document)
    return Operation(tip, document is None, plant(change, tip.stamp), named)


def absorb(before: Stored | None, one: Operation, *, superseded: bool = False) -> Absorbed:
    """The row after ``one``; ``superseded``: a version that names ``one`` came before it."""
    if before is None:
        return Absorbed(Stored(one.tip, not one.delete, settle(one.tree)))
    tree = settle(join(before.tree, one.tree))
    wins = one.tip.stamp > before.newest.stamp
    newest, live = (one.tip, not one.delete) if wins else (before.newest, before.live)
    known = (before.newest, *before.tips) if before.live else before.tips
    unnamed = [tip for tip in known if tip.version not in one.named]
    if not unnamed and wins:
        # its writer knew all that is here: the ordinary case
        return Absorbed(Stored(newest, live, tree))
    losers = [loser_of(before.tree, tip) for tip in unnamed if _lost(before.tree, tree, tip)]
    gone = {loser.tip for loser in losers}
    if not one.delete and not superseded:
        if _lost(one.tree, tree, one.tip):
            losers.append(loser_of(one.tree, one.tip))
        else:
            unnamed.append(one.tip)
    open_ = (tip for tip in unnamed if tip not in gone and tip != newest and held(tree, tip.stamp))
    left = sorted(open_, key=_stamp, reverse=True)
    if not live:
        losers += [loser_of(tree, tip) for tip in left]
    restored = tuple(left) if live and not before.live else ()
    return Absorbed(Stored(newest, live, tree, tuple(left)), tuple(losers), restored)


def _lost(before: Tree, after: Tree, tip: Tip) -> bool:
    return held(after, tip.stamp) < held(before, tip.stamp)


def _stamp(tip: Tip) -> Stamp:
    return tip.stamp


def loser_of(tree: Tree, tip: Tip) -> Loser:
    """The content that a version wrote, from a tree in which none of it is overwritten."""
    part = only(tree, tip.stamp)
    if part.get(OWN) is not None:
        return Loser(tip, text_of(render(part, partial=True)), True)
    return Loser(tip, text_of(lifted(part)), False)


def lifted(tree: Tree) -> Change:
    """A tree without its stamps: the change that made it."""
    change: Change = {}
    for item, node in tree.items():
        if type(node) is dict:
            change[item] = lifted(node)
        elif item == OWN:
            change["-"] = 1
        else:
            change[item] = {"-": 1} if node[1] is REMOVED else node[1]
    return change
