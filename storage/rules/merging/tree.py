"""Documents that merge field by field: a version for every leaf.

A *tree* is what is known of one document. Its items are ``.name`` (a field), ``#i7`` (the element of an
array whose ``id`` is 7), ``{`` (an object is here), ``[`` (an array merged by identity is here, its value
the order of the elements) and ``=`` (what stands at this very place when nothing newer stands below it).
An item leads to a tree or to a *leaf*: ``(stamp, value)`` with ``stamp = (hlc, origin)`` and a value that
is a scalar, a list that is one value, or REMOVED.

Two kinds of leaf accumulate instead of replacing each other. A *counter* has for each of its writers a
*run*, ``+HLC@ORIGIN``, named by the stamp of its first increment; the value is the sum of that writer's
increments. It shows as the number at ``=``, if that is one, and all runs together. A *set* has for each
element ``*TEXT``, and below it for each writer a *tag* ``@ORIGIN``: 1 with the stamp of the last adding, or
REMOVED with the same stamp once somebody who had seen the tag removed the element. It shows as the array at
``=``, if that is one, without what was removed, and every element with a tag that stands.

``union`` keeps the greater stamp of every leaf; ``settle`` drops what something newer above it hides for
ever (a run, if its first increment is older). Both only ever go up, so that joining is idempotent,
commutative and associative (a join of last-writer-wins registers: Shapiro et al., "A comprehensive study
of Convergent and Commutative Replicated Data Types", 2011, section 3.2), and type changes are ordered by
version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Stamp = tuple[int, str]
Leaf = tuple[Stamp, Any]
Tree = dict[str, Any]
"""Item -> Tree or Leaf. Never changed in place: trees share their branches."""
FieldChange = dict[str, Any]
"""Item -> FieldChange or value: a tree without stamps."""

OWN: Final = "="
GONE: Final = "-"
"""In a change: what was here before is gone."""
OBJECT: Final = "{"
ORDER: Final = "["
RUN: Final = "+"
ELEMENT: Final = "*"
TAG: Final = "@"
COUNTER_MAX: Final = 2**63 - 1
"""The greatest integer of a counter, of one of its runs, and of one increment."""
NOTHING_YET: Final[Stamp] = (-1, "")
"""Before every stamp."""


class Removed:
    """The value of a leaf that was removed."""

    def __repr__(self) -> str:
        return "REMOVED"


class Absent:
    """The value of a place where nothing shows."""


REMOVED: Final = Removed()
ABSENT: Final = Absent()


_FIELDS: Final = ".{"
_ELEMENTS: Final = "#["
_DOCUMENTS: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_RANKS: Final[Mapping[type, int]] = {type(None): 0, bool: 1, int: 2, float: 2, str: 3}
_RANK_OF_OTHERS: Final = 4


def text_of(value: Any) -> str:
    """The one text of a merged document: names in order, so that every node has the same bytes."""
    return _DOCUMENTS.encode(value)


def union(ours: Tree, theirs: Tree) -> Tree:
    """Everything both know; to be settled."""
    made = ours.copy()
    for item, node in theirs.items():
        known = made.get(item)
        made[item] = node if known is None else _join_nodes(known, node)
    return made


def settle(tree: Tree, floor: Stamp = NOTHING_YET) -> Tree:
    """Without what a newer leaf above hides: no later join can ever show it again."""
    own = tree.get(OWN)
    made: Tree = {}
    if own is not None and own[0] >= floor:
        floor, made[OWN] = own[0], own
    for item, node in tree.items():
        if type(node) is tuple:
            if item != OWN and (begun(item) if item[0] == RUN else node[0]) >= floor:
                made[item] = node
        else:
            below = settle(node, floor)
            if below:
                made[item] = below[OWN] if len(below) == 1 and OWN in below else below
    return made


def render(tree: Tree, *, partial: bool = False) -> dict[str, Any]:
    """The document a settled tree shows. ``partial``: elements whose array element was removed, too."""
    made = {}
    for item, node in tree.items():
        if item[0] == ".":
            value = shown(node, partial)
            if value is not ABSENT:
                made[item[1:]] = value
    return made


def part(tree: Tree, keeps: Callable[[Stamp], bool]) -> Tree:
    """The leaves of a tree whose stamp is to be kept."""
    made: Tree = {}
    for item, node in tree.items():
        if type(node) is tuple:
            if keeps(node[0]):
                made[item] = node
        else:
            below = part(node, keeps)
            if below:
                made[item] = below[OWN] if len(below) == 1 and OWN in below else below
    return made


def stamps(tree: Tree, found: dict[Stamp, int]) -> dict[Stamp, int]:
    """How many leaves carry each stamp, counted into ``found``."""
    for node in tree.values():
        if type(node) is tuple:
            found[node[0]] = found.get(node[0], 0) + 1
        else:
            stamps(node, found)
    return found


def run_of(start: Stamp) -> str:
    """The item of the run of a counter that begins at ``start``."""
    return f"{RUN}{start[0]:x}{TAG}{start[1]}"


def begun(run: str) -> Stamp:
    """The stamp of the first increment of a run. Raises ValueError."""
    hlc, _, origin = run[1:].partition(TAG)
    return int(hlc, 16), origin


def is_count(value: Any) -> bool:
    return type(value) is int and -COUNTER_MAX <= value <= COUNTER_MAX


def tags_of(node: Any, items: Iterable[str]) -> dict[str, Tree]:
    """The tags of elements at a place; an array that stands there whole is a tag for each of its elements."""
    own, tree = (node, {}) if type(node) is tuple else (node.get(OWN), node)
    if own is None or type(own[1]) is not list:
        return {item: tree.get(item, {}) for item in items}
    whole, tag = set(_items(own[1])), {TAG + own[0][1]: (own[0], 1)}
    return {item: union(tree.get(item, {}), tag) if item in whole else tree.get(item, {}) for item in items}


def stands(tags: Tree) -> bool:
    """Whether an element with these tags is in the set."""
    return any(tag[1] is not REMOVED for tag in tags.values())


def _join_nodes(ours: Any, theirs: Any) -> Any:
    if type(ours) is tuple:
        if type(theirs) is tuple:
            return later(ours, theirs)
        ours = {OWN: ours}
    elif type(theirs) is tuple:
        theirs = {OWN: theirs}
    return union(ours, theirs)


def later(ours: Leaf, theirs: Leaf) -> Leaf:
    if ours[0] != theirs[0]:
        return ours if ours[0] > theirs[0] else theirs
    # one writer, one clock value, one value: only a forged log says two things at once, and even then
    # every node must end up with the same one
    return ours if repr(ours[1]) >= repr(theirs[1]) else theirs


def shown(node: Any, partial: bool = False) -> Any:
    """The value that shows at one place, or ABSENT. ``partial``: as for ``render``."""
    if type(node) is tuple:
        return ABSENT if node[1] is REMOVED else node[1]
    fields: dict[str, Any] = {}
    elements: list[tuple[str, Any]] = []
    accumulates = False
    for item, child in node.items():
        if item[0] == ".":
            if type(child) is tuple:
                if child[1] is not REMOVED:
                    fields[item[1:]] = child[1]
                continue
            value = shown(child, partial)
            if value is not ABSENT:
                fields[item[1:]] = value
        elif item[0] == "#" and type(child) is dict and (partial or OBJECT in child):
            value = shown(child, partial)
            if value is not ABSENT:
                elements.append((item, value))
        elif item[0] == RUN or item[0] == ELEMENT:
            accumulates = True
    is_object, is_array = bool(fields) or OBJECT in node, bool(elements) or ORDER in node
    if accumulates or (is_object and is_array):
        kind = _newest_kind(node, is_object=is_object, is_array=is_array)
        if kind in (RUN, ELEMENT):
            return _sum(node) if kind == RUN else _members(node)
        is_object = kind == _FIELDS
    if is_object:
        return fields
    if is_array:
        return _ordered(elements, node.get(ORDER))
    own = node.get(OWN)
    return ABSENT if own is None or own[1] is REMOVED else own[1]


def _newest_kind(node: Tree, *, is_object: bool, is_array: bool) -> str:
    """Where writers disagreed on the type, the newest content says which it is."""
    kinds = [_ELEMENTS] * is_array + [_FIELDS] * is_object
    kinds += [kind for kind in (RUN, ELEMENT) if any(item[0] == kind for item in node)]
    return max(kinds, key=lambda kind: _newest(node, kind))


def _sum(node: Tree) -> int:
    own = node.get(OWN)
    base: int = own[1] if own is not None and is_count(own[1]) else 0
    for item, leaf in node.items():
        if item[0] == RUN:
            base += leaf[1]
    return base


def _members(node: Tree) -> list[Any]:
    """The elements of a set: null, false, true, then numbers, then texts, then others by their text."""
    own = node.get(OWN)
    items = {item for item in node if item[0] == ELEMENT}
    if own is not None and type(own[1]) is list:
        items.update(_items(own[1]))
    live = [item for item, tags in tags_of(node, items).items() if stands(tags)]
    return sorted((json.loads(item[1:]) for item in live), key=_rank)


def _items(array: list[Any]) -> list[str]:
    return [ELEMENT + text_of(value) for value in array]


def _rank(value: Any) -> tuple[int, Any, str]:
    rank = _RANKS.get(type(value), _RANK_OF_OTHERS)
    # 1 and 1.0 are two values
    return rank, value if 0 < rank < _RANK_OF_OTHERS else 0, text_of(value)


def _ordered(elements: list[tuple[str, Any]], order: Leaf | None) -> list[Any]:
    """Elements as their order says; those it does not know come after, by identity."""
    if order is None:
        elements.sort(key=lambda element: element[0])
        return [value for _, value in elements]
    found = dict(elements)
    shown = [found.pop(item) for item in order[1] if item in found]
    return shown + [found[item] for item in sorted(found)] if found else shown


def _newest(tree: Tree, kinds: str = "") -> Stamp:
    newest = NOTHING_YET
    for item, node in tree.items():
        if not kinds or item[0] in kinds:
            newest = max(newest, node[0] if type(node) is tuple else _newest(node))
    return newest
