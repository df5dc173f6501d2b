"""Documents that merge field by field: a version for every leaf.

A *tree* is what is known of one document. Its items are ``.name`` (a field), ``#i7`` (the element of an
array whose ``id`` is 7), ``{`` (an object is here), ``[`` (an array merged by identity is here, its value
the order of the elements) and ``=`` (what stands at this very place when nothing newer stands below it).
An item leads to a tree or to a *leaf*: ``(stamp, value)`` with ``stamp = (hlc, origin)`` and a value that
is a scalar, a list that is one value, or REMOVED.

``union`` keeps the greater stamp of every leaf; ``settle`` drops what something newer above it hides for
ever. Both only ever go up, so that joining is idempotent, commutative and associative (a join of
last-writer-wins registers: Shapiro et al., "A comprehensive study of Convergent and Commutative
Replicated Data Types", 2011, section 3.2), and type changes are ordered by version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Stamp = tuple[int, str]
Leaf = tuple[Stamp, Any]
Tree = dict[str, Any]
"""Item -> Tree or Leaf. Never changed in place: trees share their branches."""

OWN: Final = "="
OBJECT: Final = "{"
ORDER: Final = "["
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
            if item != OWN and node[0] >= floor:
                made[item] = node
        else:
            below = settle(node, floor)
            if below:
                made[item] = below[OWN] if len(below) == 1 and OWN in below else below
    return made


def render(tree: Tree, *, partial: bool = False) -> dict[str, Any]:
    """The document a settled tree shows. ``partial``: elements whose array element was removed, too."""
    shown = {}
    for item, node in tree.items():
        if item[0] == ".":
            value = _shown(node, partial)
            if value is not ABSENT:
                shown[item[1:]] = value
    return shown


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
                made[item] = below
    return made


def stamps(tree: Tree, found: dict[Stamp, int]) -> dict[Stamp, int]:
    """How many leaves carry each stamp, counted into ``found``."""
    for node in tree.values():
        if type(node) is tuple:
            found[node[0]] = found.get(node[0], 0) + 1
        else:
            stamps(node, found)
    return found


def _join_nodes(ours: Any, theirs: Any) -> Any:
    if type(ours) is tuple:
        if type(theirs) is tuple:
            return _later(ours, theirs)
        ours = {OWN: ours}
    elif type(theirs) is tuple:
        theirs = {OWN: theirs}
    return union(ours, theirs)


def _later(ours: Leaf, theirs: Leaf) -> Leaf:
    if ours[0] != theirs[0]:
        return ours if ours[0] > theirs[0] else theirs
    # one writer, one clock value, one value: only a forged log says two things at once, and even then
    # every node must end up with the same one
    return ours if repr(ours[1]) >= repr(theirs[1]) else theirs


def _shown(node: Any, partial: bool) -> Any:
    """The value that shows at one place, or ABSENT."""
    if type(node) is tuple:
        return ABSENT if node[1] is REMOVED else node[1]
    fields: dict[str, Any] = {}
    elements: list[tuple[str, Any]] = []
    for item, child in node.items():
        if item[0] == ".":
            if type(child) is tuple:
                if child[1] is not REMOVED:
                    fields[item[1:]] = child[1]
                continue
            value = _shown(child, partial)
            if value is not ABSENT:
                fields[item[1:]] = value
        elif item[0] == "#" and type(child) is dict and (partial or OBJECT in child):
            value = _shown(child, partial)
            if value is not ABSENT:
                elements.append((item, value))
    is_object, is_array = bool(fields) or OBJECT in node, bool(elements) or ORDER in node
    if is_object and is_array:
        # two writers disagreed on the type: the newer content says which it is
        is_object = _newest(node, ".{") > _newest(node, "#[")
    if is_object:
        return fields
    if is_array:
        return _ordered(elements, node.get(ORDER))
    own = node.get(OWN)
    return ABSENT if own is None or own[1] is REMOVED else own[1]


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
