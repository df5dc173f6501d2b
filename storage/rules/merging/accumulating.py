"""Counters and sets: what a writer says of them, from the tree that it knows, and how a tree has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from entgldb.messages.client import FieldOperation
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.messages.strict_json import read_json
from entgldb.storage.rules.merging.identity_arrays import identities
from entgldb.storage.rules.merging.tree import (
    ABSENT,
    ELEMENT,
    GONE,
    OBJECT,
    REMOVED,
    RUN,
    TAG,
    Absent,
    FieldChange,
    Stamp,
    Tree,
    begun,
    is_count,
    later,
    run_of,
    shown,
    tags_of,
    text_of,
)

INC: Final = "inc"
ADD: Final = "add"
REMOVE: Final = "remove"
_KINDS: Final = {INC: RUN, ADD: ELEMENT, REMOVE: ELEMENT}
_HINTS: Final = {
    RUN: "a counter is an integer of at most 64 bits",
    ELEMENT: "a set is an array whose elements do not merge by id",
}
_CONTAINERS: Final = (dict, list)


def accumulated(old: Any, new: Any, node: Tree) -> FieldChange | None:
    """The change of a counter or set that makes ``new`` of ``old``; None where ``new`` is something else."""
    kinds = {item[0] for item in node}
    if RUN in kinds and is_count(old) and is_count(new) and is_count(new - old):
        return {RUN: new - old} if new != old else {}
    if ELEMENT not in kinds or type(old) is not list or type(new) is not list:
        return None
    if any(type(value) in _CONTAINERS for value in new):
        return None
    before, after = ([ELEMENT + text_of(value) for value in values] for values in (old, new))
    change = {item: adding(node, item) for item in after if item not in before}
    gone = {item: removing(node, item) for item in before if item not in after}
    return change | {item: tags for item, tags in gone.items() if tags}


def carried_out(operations: Iterable[FieldOperation], tree: Tree) -> FieldChange:
    """The change that comes of operations on what ``tree`` shows. Raises InvalidError."""
    change: FieldChange = {}
    for verb, path, value in map(_read, operations):
        place, node = _descend(change, tree, path)
        kind = _KINDS[verb]
        if kind == ELEMENT:
            item = ELEMENT + text_of(value)
            place[item] = adding(node, item) if verb == ADD else removing(node, item)
        else:
            place[RUN] = place.get(RUN, 0) + value
        _check_place(place, node, kind, path)
    return _pruned(change)


def _pruned(change: FieldChange) -> FieldChange:
    """Without the elements that nobody has to remove, and the objects that were made for them alone."""
    made: FieldChange = {}
    for item, value in change.items():
        below = _pruned(value) if type(value) is dict else value
        if type(below) is not dict or below.keys() - {OBJECT}:
            made[item] = below
    return made


def _read(operation: FieldOperation) -> tuple[str, tuple[str, ...], Any]:
    verb, path = operation.verb, operation.path
    if verb not in _KINDS:
        raise InvalidError(f"an operation {verb!r:.40} is none of {', '.join(_KINDS)}")
    if not 0 < len(path) < DEPTH_MAX:
        raise InvalidError(f"a path of {len(path)} names", hint=f"1 to {DEPTH_MAX - 1} are possible")
    # what others are to read has to pass as JSON
    read_json(text_of(path), "a path", DEPTH_MAX)
    value = read_json(operation.value.decode(errors="replace"), "the value of an operation", DEPTH_MAX)
    if verb == INC and not is_count(value):
        raise InvalidError(
            f"{'.'.join(path):.80} cannot be incremented by {text_of(value):.40}",
            hint="a counter takes integers of 64 bits",
        )
    if type(value) in _CONTAINERS:
        raise InvalidError(f"an element of {'.'.join(path):.80} is no scalar", hint="put the array whole")
    return verb, path, value


def _descend(change: FieldChange, tree: Tree, path: tuple[str, ...]) -> tuple[FieldChange, Any]:
    """The change at a place, and what stands there; objects on the way are made where none is."""
    node: Any = tree
    for depth, name in enumerate(path):
        if depth:
            if (type(node) is tuple and node[1] is not REMOVED) or type(shown(node)) not in (dict, Absent):
                raise InvalidError(f"{'.'.join(path[:depth]):.80} is no object")
            if type(node) is tuple or OBJECT not in node:
                change[OBJECT] = 1
        change = change.setdefault(f".{name}", {})
        node = ({} if type(node) is tuple else node).get(f".{name}", {})
    return change, node


def _check_place(place: FieldChange, node: Any, kind: str, path: tuple[str, ...]) -> None:
    """Raises InvalidError where an operation does not fit what stands, or the operations before it."""
    what, value = "counter" if kind == RUN else "set", shown(node)
    good = is_count(value) if kind == RUN else type(value) is list and identities(value) is None
    if value is not ABSENT and not good:
        raise InvalidError(f"{'.'.join(path):.80} is no {what}", hint=_HINTS[kind])
    if any(item[0] != kind for item in place):
        raise InvalidError(f"{'.'.join(path):.80} is to be a {what} and something else")
    if not is_count(place.get(RUN, 0)):
        raise InvalidError(f"the increments of {'.'.join(path):.80} have more than 64 bits")


def adding(node: Any, item: str) -> Any:
    """The change that adds an element to the set at a place: one tag instead of all that are there."""
    known = removing(node, item)
    return {TAG: 1, **known} if known else 1


def removing(node: Any, item: str) -> FieldChange:
    """The change that removes an element, as far as it is known here."""
    tags = tags_of(node, [item])[item]
    return {tag: leaf[0][0] for tag, leaf in tags.items() if leaf[1] is not REMOVED}


def continued(change: FieldChange, tree: Tree, origin: str) -> FieldChange:
    """A change of which each increment goes on the run of its writer, where there is one."""
    made: FieldChange = {}
    below = {} if GONE in change else tree
    for item, value in change.items():
        node = below.get(item)
        if item == RUN:
            run = max((name for name in below if name[0] == RUN and begun(name)[1] == origin), default=RUN)
            total = value if run == RUN else below[run][1] + value
            # a run that would outgrow its bound is left as it is, and another one begins
            made.update({run: total} if is_count(total) else {RUN: value})
        elif item[0] in ".#" and type(value) is dict:
            made[item] = continued(value, node if type(node) is dict else {}, origin)
        else:
            made[item] = value
    return made


def planted_tags(value: Any, stamp: Stamp) -> Tree:
    """The tags of an element after what a change at ``stamp`` says of it."""
    made: Tree = {}
    for tag, hlc in ({TAG: 1} if value == 1 else value).items():
        item, leaf = (TAG + stamp[1], (stamp, 1)) if tag == TAG else (tag, ((hlc, tag[1:]), REMOVED))
        made[item] = later(made[item], leaf) if item in made else leaf
    return made


def check_accumulating(tree: Tree) -> None:
    """Raises ValueError for counters and sets that no writer can have made."""
    for item, node in tree.items():
        if item[0] == RUN:
            good = type(node) is tuple and is_count(node[1]) and run_of(begun(item)) == item
        elif item[0] == ELEMENT:
            good = is_element(item) and type(node) is dict and all(map(_is_tag, node.items()))
        else:
            good = item[0] != TAG
            if type(node) is dict:
                check_accumulating(node)
        if not good:
            raise ValueError(f"a bad item {item!r:.40}")


def is_run(item: str, stamp: Stamp) -> bool:
    """Whether it is a run that has begun before ``stamp``."""
    try:
        start = begun(item)
    except ValueError:
        return False
    return run_of(start) == item and (0, "") < start < stamp


def is_element(item: str) -> bool:
    """Whether it is the one text of a scalar."""
    try:
        value = json.loads(item[1:])
    except ValueError:
        return False
    return type(value) not in _CONTAINERS and text_of(value) == item[1:]


def are_tags(tags: Any, stamp: Stamp) -> bool:
    """Whether it is what a change at ``stamp`` says of one element."""
    return type(tags) is dict and all(
        (tag == TAG and hlc == 1)
        or (tag[:1] == TAG and len(tag) > 1 and type(hlc) is int and (0, "") < (hlc, tag[1:]) < stamp)
        for tag, hlc in tags.items()
    )


def _is_tag(tag: tuple[str, Any]) -> bool:
    item, leaf = tag
    return type(leaf) is tuple and item == TAG + leaf[0][1] and (leaf[1] is REMOVED or leaf[1] == 1)


def renamed(change: FieldChange, now: Callable[[Stamp], Stamp | None]) -> FieldChange:
    """A change that names each run and tag by the stamp that it has now, and no tag that has none."""
    made: FieldChange = {}
    for item, value in change.items():
        if item[0] == RUN and item != RUN:
            made[run_of(now(begun(item)) or begun(item))] = value
        elif item[0] == ELEMENT and type(value) is dict:
            known = [now((hlc, tag[1:])) for tag, hlc in value.items() if tag != TAG]
            tags = {TAG + stamp[1]: stamp[0] for stamp in known if stamp is not None}
            if TAG in value or tags:
                made[item] = {TAG: 1, **tags} if TAG in value else tags
        else:
            made[item] = renamed(value, now) if type(value) is dict else value
    return made


def begun_anew(change: FieldChange) -> FieldChange:
    """A change whose runs begin with whoever writes it: of a run that was lost, the whole sum."""
    made: FieldChange = {}
    for item, value in change.items():
        if item[0] == RUN:
            made[RUN] = made.get(RUN, 0) + value
        else:
            made[item] = begun_anew(value) if type(value) is dict and item[0] in ".#" else value
    return made


def tags_removed(change: FieldChange) -> Iterator[Stamp]:
    for item, value in change.items():
        if type(value) is dict:
            if item[0] == ELEMENT:
                yield from ((hlc, tag[1:]) for tag, hlc in value.items() if tag != TAG)
            else:
                yield from tags_removed(value)


def unaccumulated(tree: Tree, gone: Callable[[Stamp], bool]) -> Tree:
    """A tree without the runs and tags whose stamps are gone."""
    made: Tree = {}
    for item, node in tree.items():
        if type(node) is dict:
            below = unaccumulated(node, gone)
            if below or not node:
                made[item] = below
        elif item[0] not in (RUN, TAG) or not gone(node[0]):
            made[item] = node
    return made


def goes_on(tree: Tree) -> bool:
    """Whether a run of a counter has more than its first increment: something between may have ended it."""
    for item, node in tree.items():
        if goes_on(node) if type(node) is dict else item[0] == RUN and begun(item) != node[0]:
            return True
    return False
