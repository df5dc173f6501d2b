"""From two documents to the leaves that a writer changed, and from these to a tree with its stamp.

A *change* has the form of a tree, without stamps: item -> change or value. A value is a scalar or a list,
never an object, so that an object is always a change; ``-`` means that what was there before is gone.
``+`` begins the run of a counter with this change's stamp, ``+HLC@ORIGIN`` says how far that run is now. An
element ``*TEXT`` leads to 1, which adds it, or to an object: ``@`` (1) adds it, too, and ``@ORIGIN`` is the
clock of a tag that the writer had seen and that is removed with it.
"""

from __future__ import annotations

from typing import Any, Final

from entgldb.messages.errors import InvalidError
from entgldb.storage.rules.merging.accumulating import (
    accumulated,
    are_tags,
    is_element,
    is_run,
    planted_tags,
)
from entgldb.storage.rules.merging.identity_arrays import identities, identity_of
from entgldb.storage.rules.merging.tree import (
    ABSENT,
    ELEMENT,
    GONE,
    NOTHING_YET,
    OBJECT,
    ORDER,
    OWN,
    REMOVED,
    RUN,
    FieldChange,
    Stamp,
    Tree,
    is_count,
    run_of,
    text_of,
)

_AROUND: Final = 8
"""Quotes and braces around a part of a change."""
_CONTAINERS: Final = (dict, list)


def whole(document: dict[str, Any]) -> FieldChange:
    """The meaning of a put: all that was there is gone, and this stands there instead."""
    return {GONE: 1, **fresh(document)}


def fresh(document: dict[str, Any]) -> FieldChange:
    """All leaves of a document where none was."""
    return {
        "." + name: _made(value, None) if type(value) in _CONTAINERS else value
        for name, value in document.items()
    }


def difference(old: dict[str, Any], new: dict[str, Any], tree: Tree) -> FieldChange:
    """The change that turns ``old``, which ``tree`` shows, into ``new``; empty when they are equal."""
    return _between_items(old, new, tree, ".")


def as_read(document: dict[str, Any], tree: Tree) -> Tree:
    """The tree of a document that somebody had read, for ``difference``; ``tree`` is what stands now.

    Only what ``tree`` hides is added: where the writer puts something there, that must not show again. And
    counters and sets, which take what the writer changed.
    """
    return _with_hidden(_planted(fresh(document), NOTHING_YET), tree)


def _with_hidden(read: Tree, tree: Tree) -> Tree:
    for item, node in tree.items():
        if type(node) is not dict:
            continue
        known = read.get(item)
        if type(known) is dict:
            _with_hidden(known, node)
        elif known is None and item[0] == "#" and OBJECT not in node:
            read[item] = node
        elif type(known) is tuple and any(below[0] in (RUN, ELEMENT) for below in node):
            # a number or an array was read: what changed of it goes into the counter or set that stands now
            read[item] = node
    return read


def plant(change: FieldChange, stamp: Stamp, over: Stamp | None = None) -> Tree:
    """The tree of a change made at ``stamp``; ``over``: the stamp of a delete that its writer had seen."""
    tree = _planted(change, stamp)
    if over is not None and OWN not in tree:
        tree[OWN] = (over, REMOVED)
    return tree


def check_change(change: Any, depth: int, stamp: Stamp) -> None:
    """Raises InvalidError for what cannot be a change made at ``stamp``. ``depth`` bounds its nesting."""
    if type(change) is not dict:
        raise InvalidError("a change is no object")
    if depth == 0:
        raise InvalidError("a change is nested too deeply")
    for item, value in change.items():
        if item[:1] == "." and type(value) is not dict:
            continue
        if item == ORDER:
            good = type(value) is list and all(type(one) is str and one[:1] == "#" for one in value)
        elif item in (GONE, OBJECT):
            good = value == 1
        elif item[:1] == RUN:
            good = is_count(value) and (item == RUN or is_run(item, stamp))
        elif item[:1] == ELEMENT:
            good = is_element(item) and (value == 1 or are_tags(value, stamp))
        else:
            good = item[:1] in (".", "#")
            if type(value) is dict:
                check_change(value, depth - 1, stamp)
        if not good:
            raise InvalidError(f"a change has a bad item {item!r:.40}")


def joined(one: FieldChange, two: FieldChange) -> FieldChange:
    """Two changes of different leaves as one."""
    made = dict(one)
    for item, value in two.items():
        known = made.get(item)
        made[item] = joined(known, value) if type(known) is dict and type(value) is dict else value
    return made


def edits_absent(change: Any, node: Any) -> bool:
    """Whether the change at one place edits an element that ``node`` does not have: then it shows nowhere."""
    if type(change) is not dict or GONE in change:
        return False
    items = change.items()
    return any(_is_absent(*item, node) or edits_absent(item[1], _below(node, item[0])) for item in items)


def with_elements(change: FieldChange, node: Any) -> FieldChange:
    """A change that makes the elements that it edits where ``node`` does not have them, so that it shows."""
    made: FieldChange = {}
    name = ""
    for item, below in change.items():
        made[item] = below
        if type(below) is dict and item[0] in ".#":
            made[item] = with_elements(below, _below(node, item))
        if _is_absent(item, below, node):
            # an array may be long: it is looked at once
            name, value = name or _identity_name(node), identity_of(item)
            made[item] |= {OBJECT: 1} if value is None else {OBJECT: 1, name: value}
    return made


def _below(node: Any, item: str) -> Any:
    return node.get(item) if type(node) is dict else None


def _is_absent(item: str, change: Any, node: Any) -> bool:
    """Whether the change of an item edits an element that ``node`` does not have."""
    if item[0] != "#" or type(change) is not dict or change.keys() & {OBJECT, GONE}:
        return False
    known = _below(node, item)
    return type(known) is not dict or OBJECT not in known


def _identity_name(node: Any) -> str:
    """The field by which elements of the array at ``node`` are known."""
    elements = [below for below in node.values() if type(below) is dict] if type(node) is dict else []
    return "._id" if any("._id" in below and ".id" not in below for below in elements) else ".id"


def split(change: FieldChange, bytes_max: int) -> list[FieldChange]:
    """Changes that come to the same, one after the other, each of ``bytes_max`` as text; no leaf is cut."""
    made: list[FieldChange] = [{}]
    room = bytes_max
    # an item that removes all that was before comes before all others
    for item in sorted(change, key=lambda item: (item != GONE, item[0] in ".#")):
        size = len(text_of({item: change[item]}).encode())
        if size > bytes_max and type(change[item]) is dict:
            below = split(change[item], bytes_max - len(item.encode()) - _AROUND)
            made += [{item: part} for part in below]
            room = 0
            continue
        if made[-1] and size > room:
            made.append({})
            room = bytes_max
        made[-1][item] = change[item]
        room -= size
    return [part for part in made if part] or [{}]


def same(one: Any, two: Any) -> bool:
    """Equal as JSON texts: 1, 1.0 and true are three values, and so are 0.0 and -0.0."""
    if type(one) is not type(two):
        return False
    if type(one) in (str, int, bool) or one is None:
        return bool(one == two)
    return text_of(one) == text_of(two)


def _planted(change: FieldChange, stamp: Stamp) -> Tree:
    tree: Tree = {}
    for item, value in change.items():
        if item == RUN:
            tree[run_of(stamp)] = (stamp, value)
        elif item[0] == ELEMENT:
            tree[item] = planted_tags(value, stamp)
        elif type(value) is dict:
            below = _planted(value, stamp)
            tree[item] = below[OWN] if len(below) == 1 and OWN in below else below
        elif item == GONE:
            tree[OWN] = (stamp, REMOVED)
        else:
            tree[item] = (stamp, value)
    return tree


def _made(value: Any, residue: Any) -> Any:
    """A value where none, or one of another type, was; ``residue`` is what the tree has there.

    Only what may hide below is declared gone: two writers who each give an absent object or an empty
    array its first content keep both.
    """
    if type(value) is dict:
        change: FieldChange = {OBJECT: 1}
        for name, child in value.items():
            change["." + name] = _made(child, None) if type(child) in _CONTAINERS else child
    else:
        items = identities(value)
        if items is None:
            return value
        change = {ORDER: items}
        for item, element in zip(items, value, strict=True):
            change[item] = _made(element, None)
    if type(residue) is dict:
        change[GONE] = 1
    return change


def _between(old: Any, new: Any, node: Any) -> Any:
    """The change at one place, or ABSENT; null is a value."""
    if type(old) is dict and type(new) is dict and type(node) is dict:
        change = difference(old, new, node)
        if change and OBJECT not in node:
            change[OBJECT] = 1
        return change or ABSENT
    if type(node) is dict:
        sum_or_set = accumulated(old, new, node)
        if sum_or_set is not None:
            return sum_or_set or ABSENT
    before, after = identities(old), identities(new)
    if before is not None and after is not None and type(node) is dict:
        return _between_arrays(dict(zip(before, old, strict=True)), dict(zip(after, new, strict=True)), node)
    if same(old, new):
        return ABSENT
    return _made(new, node)


def _between_items(old: dict[str, Any], new: dict[str, Any], node: Tree, prefix: str = "") -> dict[str, Any]:
    """The changes of fields, or of elements; ``prefix`` makes a field's name the name of its item."""
    change: dict[str, Any] = {}
    for name, value in new.items():
        item = prefix + name
        if name not in old:
            change[item] = _made(value, node.get(item))
        else:
            below = _between(old[name], value, node.get(item))
            if below is not ABSENT:
                change[item] = below
    for name in old:
        if name not in new:
            change[prefix + name] = {GONE: 1}
    return change


def _between_arrays(old: dict[str, Any], new: dict[str, Any], node: Tree) -> Any:
    change = _between_items(old, new, node)
    if list(old) != list(new) or (change and ORDER not in node):
        change[ORDER] = list(new)
    return change or ABSENT
