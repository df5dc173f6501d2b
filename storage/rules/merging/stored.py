"""A row of the documents table as a tree, and back: ``body`` is what shows, ``stamps`` is the rest.

``stamps`` is NULL for a document (or tombstone) that was put or deleted whole: all its leaves have the
row's own version, and nothing older counts. Otherwise it is the msgpack array
``[1, origins, base, differences, tips]``: most leaves have the stamp ``base``, only others are listed. Of a
tip that expires, the moment stands behind its stamp.

A row of which the newest version has *expired* shows nothing, as if that version were a delete. Of one that
was put whole nothing else is left. One that merges keeps its leaves: a later change, by somebody who has
seen the document live, finds it whole.
"""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any, Final, NamedTuple

import msgpack

from entgldb.messages.errors import CorruptError
from entgldb.messages.limits import COUNT_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.rules.clock import MS_MAX
from entgldb.storage.rules.merging.accumulating import check_accumulating
from entgldb.storage.rules.merging.changes import fresh, plant, whole
from entgldb.storage.rules.merging.tree import (
    NOTHING_YET,
    ORDER,
    REMOVED,
    RUN,
    TAG,
    FieldChange,
    Leaf,
    Stamp,
    Tree,
    render,
    stamps,
    text_of,
)

_FORMAT: Final = 1
_UNREADABLE: Final = (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError)
_DROPPED: Final = 0
"""Stands for an item that ``body`` suggests and the tree does not have."""
_WRITERS: Final = (RUN, TAG)
"""Items that name a writer: in ``stamps`` by its number."""


class Tip(NamedTuple):
    """A version merged into a document that no later version has named."""

    origin: Origin
    seq: int
    hlc: int
    expires: int = 0
    """The moment from which on nobody shows it, in milliseconds since 1970; 0: none."""

    @property
    def version(self) -> Version:
        return Version(self.origin, self.seq)

    @property
    def stamp(self) -> Stamp:
        return (self.hlc, self.origin)


class Stored(NamedTuple):
    """Everything a node knows of one key: a tree, which of a document that one version put is one leaf."""

    newest: Tip
    """The greatest version of all that were merged."""
    live: bool
    """False where the greatest version is a delete, or was put whole and has expired."""
    fields: Tree | None = None
    """None where ``newest`` wrote all there is, and nothing older counts: ``text`` is the only leaf."""
    tips: tuple[Tip, ...] = ()
    """Versions beside ``newest`` that nobody has named; greatest first."""
    text: str | None = None
    """The document that ``newest`` put, as its writer said it; None where it deleted it, or wrote fields."""
    hidden: bool = False
    """As it was read, the row showed nothing because ``newest`` has expired."""

    @property
    def shown(self) -> bool:
        """Whether the row, as it was read, showed a document."""
        return self.live and not self.hidden

    def shows(self, time_ms: int) -> bool:
        """Whether the row shows a document at ``time_ms``."""
        return self.live and not self.is_past(time_ms)

    def is_past(self, time_ms: int) -> bool:
        """Whether the newest version has expired at ``time_ms``."""
        return 0 < self.newest.expires <= time_ms

    @property
    def tree(self) -> Tree:
        """All leaves with their stamps."""
        if self.fields is not None:
            return self.fields
        return plant(whole(self.document()), self.newest.stamp)

    def document(self) -> dict[str, Any]:
        """The document that shows, or would show if it were not deleted."""
        if self.fields is not None:
            return render(self.fields)
        found: dict[str, Any] = {} if self.text is None else json.loads(self.text)
        return found


def load(newest: Tip, body: str | None, blob: bytes | None) -> Stored:
    """A row as it was saved. Raises CorruptError."""
    hidden = body is None and newest.expires > 0
    if blob is None:
        return Stored(newest, body is not None, text=body, hidden=hidden)
    try:
        form, origins, base, differences, tips = msgpack.unpackb(blob, raw=False, strict_map_key=True)
        shown = {} if body is None else fresh(json.loads(body))
        tree = _patched(shown, (base[1], origins[base[0]]), differences, origins)
        found = tuple(Tip(origins[number], seq, hlc, *moment) for number, seq, hlc, *moment in tips)
    except (*_UNREADABLE, msgpack.exceptions.UnpackException) as fault:
        raise CorruptError(f"the field versions of a document cannot be read: {fault}") from None
    if form != _FORMAT:
        raise CorruptError(f"field versions of form {form} are unknown to this release")
    # a delete has no moment: a row that has one, and shows nothing, has expired
    return Stored(newest, body is not None or hidden, tree, found, hidden=hidden)


def load_foreign(
    newest: Tip, body: str | None, blob: bytes, origins: Container[Origin], clock: int
) -> Stored:
    """A row that came from elsewhere. Raises CorruptError, also for a version that nobody can have written.

    ``origins``: whose versions may stand in it; ``clock``: the bound of all stamps in it.
    """
    stored = load(newest, body, blob)
    try:
        known = stamps(stored.tree, {})
        check_accumulating(stored.tree)
        good = all(type(hlc) is int and 0 <= hlc <= clock and type(name) is str for hlc, name in known)
        for name, seq, hlc, moment in stored.tips:
            good &= name in origins and type(seq) is int and 0 < seq <= COUNT_MAX
            good &= type(hlc) is int and 0 <= hlc <= clock
            good &= type(moment) is int and 0 <= moment <= MS_MAX
    except _UNREADABLE:
        good = False
    if not good:
        raise CorruptError("the field versions of a document are none")
    return stored


def tips_of(blob: bytes) -> tuple[Version, ...]:
    """The versions in ``stamps`` beside the newest that nobody has named."""
    _, origins, _, _, tips = msgpack.unpackb(blob, raw=False, strict_map_key=True)
    return tuple(Version(origins[number], seq) for number, seq, *_ in tips)


def save(stored: Stored, *, hidden: bool = False) -> tuple[str | None, bytes | None]:
    """``body`` and ``stamps``; ``hidden``: its newest version has expired."""
    if stored.fields is None:
        return None if hidden else stored.text, None
    document = render(stored.fields) if stored.live and not hidden else None
    counts = stamps(stored.fields, {})
    base = max(counts, key=lambda stamp: (counts[stamp], stamp)) if counts else NOTHING_YET
    names = sorted({base[1], *(stamp[1] for stamp in counts), *(tip.origin for tip in stored.tips)})
    origins = {name: number for number, name in enumerate(names)}
    shown = {} if document is None else fresh(document)
    differences = _differences(shown, stored.fields, base, origins)
    tips = [
        (origins[tip.origin], tip.seq, tip.hlc, *((tip.expires,) if tip.expires else ()))
        for tip in stored.tips
    ]
    blob: bytes = msgpack.packb((_FORMAT, names, (origins[base[1]], base[0]), differences, tips))
    return None if document is None else text_of(document), blob


def _differences(shown: FieldChange, tree: Tree, base: Stamp, origins: dict[Origin, int]) -> dict[str, Any]:
    """The part of a tree that differs from ``shown`` with all its leaves at ``base``."""
    found: dict[str, Any] = {}
    for item, node in tree.items():
        guess = shown.get(item)
        if type(node) is not tuple:
            below = _differences(guess if type(guess) is dict else {}, node, base, origins)
            if below or type(guess) is not dict:
                found[item] = below
        elif item[0] in _WRITERS:
            found[_short(item, origins)] = _packed(node[0], origins) + _packed_value(node)
        elif (guess is node[1] and item in shown) or (item == ORDER and guess == node[1]):
            # the document was rendered from this very tree: it has the same values, not only equal ones
            if node[0] != base:
                found[item] = _packed(node[0], origins)
        else:
            found[item] = _packed(node[0], origins) + _packed_value(node)
    for item in shown:
        if item not in tree:
            found[item] = _DROPPED
    # in order, so that nodes that know the same have the same bytes
    return dict(sorted(found.items())) if len(found) > 1 else found


def _short(item: str, origins: dict[Origin, int]) -> str:
    """A run or a tag with the place of its writer in the list of origins.

    A run that goes on under another name than its writer had keeps the writer's whole one.
    """
    head, _, origin = item.partition(TAG)
    return f"{head}{TAG}{origins.get(origin, origin)}"


def _long(item: str, origins: list[Origin]) -> str:
    head, _, origin = item.partition(TAG)
    return f"{head}{TAG}{origins[int(origin)] if origin.isdigit() else origin}"


def _packed(stamp: Stamp, origins: dict[Origin, int]) -> list[Any]:
    return [origins[stamp[1]], stamp[0]]


def _packed_value(leaf: Leaf) -> list[Any]:
    # as JSON text, because msgpack has no integers beyond 64 bits
    return [] if leaf[1] is REMOVED else [text_of(leaf[1])]


def _patched(shown: FieldChange, base: Stamp, differences: dict[str, Any], origins: list[Origin]) -> Tree:
    tree: Tree = {}
    for item, guess in shown.items():
        if item not in differences:
            tree[item] = _patched(guess, base, {}, origins) if type(guess) is dict else (base, guess)
    for item, found in differences.items():
        guess = shown.get(item)
        if type(found) is dict:
            tree[item] = _patched(guess if type(guess) is dict else {}, base, found, origins)
        elif found != _DROPPED:
            if item[0] in _WRITERS:
                item = _long(item, origins)
            stamp = (found[1], origins[found[0]])
            if len(found) == 3:
                tree[item] = (stamp, json.loads(found[2]))
            else:
                tree[item] = (stamp, guess if item in shown and type(guess) is not dict else REMOVED)
    return tree
