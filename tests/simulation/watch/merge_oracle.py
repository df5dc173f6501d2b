"""The content that a document that merges must show, computed from the set of its operations alone.

Independent of the code under test: leaves stand in one flat table of paths, nothing is incremental, and
order of arrival plays no part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

Stamp = tuple[int, str]
Id = tuple[str, int]
Path = tuple[str, ...]
GONE = object()
_KINDS = {".": "object", "{": "object", "#": "array", "[": "array", "+": "counter", "*": "set"}
_ORDER: list[type] = [type(None), bool, int, str]


class Step(NamedTuple):
    """One operation on one key."""

    id: Id
    hlc: int
    op: int
    """0 put, 1 delete, 2 merge."""
    parent: Id | None
    body: str | None
    seen: tuple[Id, ...] = ()
    expires: int = 0

    @property
    def stamp(self) -> Stamp:
        return (self.hlc, self.id[0])


class Outcome(NamedTuple):
    """The state of one key that all nodes must agree on."""

    newest: Id
    document: dict[str, Any] | None
    conflicts: frozenset[Id]


def outcome(steps: Iterable[Step], now_ms: int = 0) -> Outcome:
    """Fold operations in whatever order they are given, and show what has not expired at ``now_ms``."""
    every = list(steps)
    newest = max(every, key=lambda one: one.stamp)
    registers: dict[Path, tuple[Stamp, Any]] = {}
    for one in every:
        # below a merge a put that expires has no fields, as on a node where it had expired before
        leaves = {(): (one.stamp, GONE)} if one.op == 0 and one.expires and one != newest else _leaves(one)
        for path, leaf in leaves.items():
            _put(registers, path, leaf)
    visible = {path: found for path, found in registers.items() if not _hidden(path, found[0], registers)}
    gone = _deletes(newest) or _is_past(newest, now_ms)
    named = {version for one in every for version in _named(one)}
    conflicts = {
        one.id
        for one in every
        if one.id not in named and not _deletes(one) and not _is_past(one, now_ms)
        if (one.op == 0 and one.expires and one != newest)
        or any(gone or path not in visible or visible[path][0] != one.stamp for path in _own(one))
    }
    document = None if gone else _object({path: value for path, (_, value) in visible.items()}, visible, ())
    return Outcome(newest.id, document, frozenset(conflicts))


def _leaves(one: Step) -> dict[Path, tuple[Stamp, Any]]:
    if one.op == 1:
        return {(): (one.stamp, GONE)}
    body = json.loads(one.body or "")
    found: dict[Path, tuple[Stamp, Any]] = {}
    if one.op == 0:
        found[()] = (one.stamp, GONE)
        for name, value in body.items():
            _spread(value, (f".{name}",), one.stamp, found)
        return found
    if body.get("over"):
        found[()] = ((body["over"][0], body["over"][1]), GONE)
    _read(body["change"], (), one.stamp, found)
    return found


def _put(registers: dict[Path, tuple[Stamp, Any]], path: Path, leaf: tuple[Stamp, Any]) -> None:
    """The later leaf stays; the tag of an element that was removed has the stamp of its adding."""
    known = registers.get(path)
    if known is None or leaf[0] > known[0] or (leaf[0] == known[0] and leaf[1] is GONE):
        registers[path] = leaf


def _own(one: Step) -> list[Path]:
    """The leaves with the operation's own stamp."""
    return [path for path, (stamp, _) in _leaves(one).items() if stamp == one.stamp]


def _spread(value: Any, path: Path, stamp: Stamp, found: dict[Path, tuple[Stamp, Any]]) -> None:
    """All leaves of a value that was put whole."""
    if isinstance(value, dict):
        found[(*path, "{")] = (stamp, 1)
        for name, child in value.items():
            _spread(child, (*path, f".{name}"), stamp, found)
        return
    items = _items(value)
    if items is None:
        found[path] = (stamp, value)
        return
    found[(*path, "[")] = (stamp, items)
    for item, child in zip(items, value, strict=True):
        _spread(child, (*path, item), stamp, found)


def _items(value: Any) -> list[str] | None:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return None
    letters = {str: "s", int: "i", float: "f"}
    for name in ("id", "_id"):
        if all(type(one.get(name)) in letters for one in value):
            items = [f"#{letters[type(one[name])]}{one[name]}" for one in value]
            if len(set(items)) == len(items):
                return items
    return None


def _read(change: dict[str, Any], path: Path, stamp: Stamp, found: dict[Path, tuple[Stamp, Any]]) -> None:
    for item, value in change.items():
        if item == "-":
            found[path] = (stamp, GONE)
        elif item == "+":
            found[(*path, f"+{stamp[0]:x}@{stamp[1]}")] = (stamp, value)
        elif item[0] == "*":
            for tag, hlc in value.items() if isinstance(value, dict) else [("@", 1)]:
                if tag == "@":
                    _put(found, (*path, item, f"@{stamp[1]}"), (stamp, 1))
                else:
                    _put(found, (*path, item, tag), ((hlc, tag[1:]), GONE))
        elif isinstance(value, dict):
            _read(value, (*path, item), stamp, found)
        else:
            found[(*path, item)] = (stamp, value)


def _hidden(path: Path, stamp: Stamp, registers: dict[Path, tuple[Stamp, Any]]) -> bool:
    if path and path[-1][0] == "+":  # a run is as old as its first increment
        hlc, origin = path[-1][1:].split("@")
        stamp = (int(hlc, 16), origin)
    above = (path[:depth] for depth in range(len(path)))
    return any(place in registers and registers[place][0] > stamp for place in above)


def _named(one: Step) -> set[Id]:
    return set(one.seen) if one.parent is None else {one.parent, *one.seen}


def _deletes(one: Step) -> bool:
    return one.op == 1 or (one.op == 2 and json.loads(one.body or "").get("delete") == 1)


def _is_past(one: Step, now_ms: int) -> bool:
    return 0 < one.expires <= now_ms and not _deletes(one)


def _object(leaves: dict[Path, Any], visible: dict[Path, tuple[Stamp, Any]], at: Path) -> dict[str, Any]:
    shown = {}
    for item in {path[len(at)] for path in leaves if path[: len(at)] == at and len(path) > len(at)}:
        if item[0] == ".":
            value = _value(leaves, visible, (*at, item))
            if value is not GONE:
                shown[item[1:]] = value
    return shown


def _value(leaves: dict[Path, Any], visible: dict[Path, tuple[Stamp, Any]], at: Path) -> Any:
    below = {path: stamp for path, (stamp, _) in visible.items() if path[: len(at)] == at and path != at}
    kinds: dict[str, Stamp] = {}
    for path, stamp in below.items():
        kind = _KINDS[path[len(at)][0]]
        kinds[kind] = max(kinds.get(kind, stamp), stamp)
    fields = _object(leaves, visible, at)
    elements = {
        item: _value(leaves, visible, (*at, item))
        for item in {path[len(at)] for path in below}
        if item[0] == "#" and (*at, item, "{") in visible
    }
    elements = {item: value for item, value in elements.items() if value is not GONE}
    is_object = bool(fields) or (*at, "{") in visible
    is_array = bool(elements) or (*at, "[") in visible
    there = {"array": is_array, "object": is_object, "counter": "counter" in kinds, "set": "set" in kinds}
    kind = max((kind for kind in there if there[kind]), key=kinds.__getitem__, default="")
    own = leaves.get(at)
    if kind == "counter":
        runs = [value for path, value in leaves.items() if path[:-1] == at and path[-1][0] == "+"]
        return sum(runs) + (own if type(own) is int and abs(own) < 2**63 else 0)
    if kind == "set":
        return _members(leaves, visible, at, own if isinstance(own, list) else [])
    if kind == "object":
        return fields
    if kind == "array":
        order = leaves.get((*at, "["), [])
        known = [item for item in order if item in elements]
        return [elements[item] for item in known + sorted(set(elements) - set(known))]
    return leaves.get(at, GONE)


def _members(
    leaves: dict[Path, Any], visible: dict[Path, tuple[Stamp, Any]], at: Path, whole: list[Any]
) -> list[Any]:
    """What has a tag that stands. An array put whole is one tag for each of its elements."""
    tags: dict[Path, tuple[Stamp, Any]] = {}
    for path, leaf in visible.items():
        if path[: len(at)] == at and len(path) == len(at) + 2 and path[len(at)][0] == "*":
            _put(tags, path, leaf)
    for value in whole:
        stamp = visible[at][0]
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        _put(tags, (*at, f"*{text}", f"@{stamp[1]}"), (stamp, 1))
    texts = {path[len(at)][1:] for path, (_, value) in tags.items() if value is not GONE}
    return sorted((json.loads(text) for text in texts), key=_in_order)


def _in_order(value: Any) -> tuple[int, Any, str]:
    kind = int if type(value) is float else type(value)
    if kind not in _ORDER:
        return len(_ORDER), 0, json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _ORDER.index(kind), 0 if value is None else value, json.dumps(value, ensure_ascii=False)
