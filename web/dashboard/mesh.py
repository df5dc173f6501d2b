"""The mesh as this node sees it: where each node and cloud is drawn, and what each link is like. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

WIDTH, HEIGHT = 420, 330
DOTS_MAX: Final = 60
"""Nodes that are drawn; the ones that matter most are. The page of nodes has all."""
LABELS_MAX: Final = 12
"""Up to so many have their names beside them."""
LINKS_MAX: Final = 50
"""Rows of the table under the picture."""
HEARD_MS: Final = 100_000
"""A node heard of within that time, by whatever way, is there; an idle one says something every 30 s."""
_WORST: Final = {"backoff": 0, "absent": 1, "connecting": 2, "disabled": 3, "heard": 4, "connected": 5}
Rows = Iterable[Mapping[str, Any]]


class Link(NamedTuple):
    """The way to one peer, as far as it is known. None is unknown, never 0."""

    name: str
    kind: str
    """``node`` or ``cloud``."""
    state: str
    """``connected``, ``connecting``, ``backoff``, ``disabled``, ``heard`` (by others) or ``absent``."""
    address: str
    reason: str
    since_ms: int | None
    behind_in: int | None
    behind_out: int | None
    seconds_in: float | None
    seconds_out: float | None
    token_seconds: int | None
    """How long its token lives; None: this link carries none, or another node has it."""
    via: str
    """The node that holds the link; empty: this one."""

    @property
    def in_step(self) -> bool:
        """Whether nothing is missing on either side, as far as is known."""
        return self.state == "connected" and not self.behind_in and not self.behind_out


class Dot(NamedTuple):
    """A node or cloud in the picture."""

    name: str
    kind: str
    state: str
    x: float
    y: float
    me: bool
    leads: bool


class Line(NamedTuple):
    """A link in the picture, from one dot to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    link: Link

    @property
    def middle(self) -> tuple[float, float]:
        """Where its words stand: nearer to the far end, where lines are apart."""
        return self.x1 + 0.58 * (self.x2 - self.x1), self.y1 + 0.58 * (self.y2 - self.y1)


class Other(NamedTuple):
    """A link between two other nodes, of which this one knows that it is there, and nothing more."""

    x1: float
    y1: float
    x2: float
    y2: float
    names: str


class Picture(NamedTuple):
    """All of it."""

    dots: list[Dot]
    lines: list[Line]
    others: list[Other]
    """Where there is room for names: of many nodes they would hide all else."""
    links: list[Link]
    left_out: int
    """Nodes that have no place in the picture."""

    @property
    def labelled(self) -> bool:
        """Whether there is room for names."""
        return len(self.dots) <= LABELS_MAX


def links(status: Mapping[str, Any], clouds: Rows, now_ms: int) -> list[Link]:
    """Every peer of a node, the worst first. ``clouds``: rows with ``node_id``, ``address``, ``enabled``."""
    sync, gateway, election = (status.get(name) or {} for name in ("sync", "gateway", "election"))
    me, found = str(status.get("node_id", "")), {}
    for member in sync.get("members") or []:
        name = _node(member)
        heard = (sync.get("now_ms") or 0) - (member.get("heard_ms") or 0) < HEARD_MS
        found[name] = _link(name, "node", {"state": "heard" if heard else "absent"}, now_ms)
    for name in election.get("candidates") or []:
        found.setdefault(name, _link(name, "node", {"state": "heard"}, now_ms))
    for row in sync.get("peers") or []:
        found[str(row["node_id"])] = _link(str(row["node_id"]), "node", row, now_ms)
    found.pop(me, None)
    for cloud in clouds:
        found[str(cloud["node_id"])] = _cloud(cloud, election, now_ms)
    for row in gateway.get("links") or []:
        found[str(row["node_id"])] = _link(str(row["node_id"]), "cloud", row, now_ms)
    return sorted(found.values(), key=lambda one: (one.kind, _WORST.get(one.state, 2), one.in_step, one.name))


def picture(status: Mapping[str, Any], known: Sequence[Link]) -> Picture:
    """Clouds above, nodes in a ring below, the gateway nearest to the clouds; of many this node amid."""
    me = str(status.get("node_id", ""))
    leader = (status.get("election") or {}).get("gateway")
    clouds = [one for one in known if one.kind == "cloud"][: LABELS_MAX // 2]
    others = [one for one in known if one.kind == "node"]
    matter = sorted(others, key=lambda one: (one.name != leader, _WORST.get(one.state, 2), one.name))
    shown = sorted(matter[: DOTS_MAX - 1], key=lambda one: one.name)
    names = sorted({me, *(one.name for one in shown)}, key=lambda name: (name != leader, name))
    if len(names) > LABELS_MAX:
        names = [name for name in names if name != me] + [me]
    states = {one.name: one.state for one in shown} | {me: "connected"}
    dots = [
        Dot(one.name, "cloud", one.state, x, 42, me=False, leads=False)
        for one, x in zip(clouds, _spread(len(clouds)), strict=True)
    ]
    top = 112.0 if clouds else 44.0
    dots += [
        Dot(name, "node", states[name], x, y, me=name == me, leads=name == leader)
        for name, (x, y) in zip(names, _places(len(names), top), strict=True)
    ]
    places = {dot.name: dot for dot in dots}
    lines = [_line(places, one, one.via or me) for one in (*clouds, *shown)]
    left_out = len(known) - len(clouds) - len(shown)
    between = _others(status, places) if len(dots) <= LABELS_MAX else []
    drawn = [line for line in lines if line is not None]
    return Picture(dots, drawn, between, list(known[:LINKS_MAX]), left_out)


def _others(status: Mapping[str, Any], places: Mapping[str, Dot]) -> list[Other]:
    """Links of which the nodes at their ends have told this node."""
    me = str(status.get("node_id", ""))
    pairs = {
        (min(pair), max(pair))
        for row in (status.get("sync") or {}).get("peers") or []
        for name in row.get("near") or []
        if me not in (pair := (str(row["node_id"]), str(name))) and places.keys() >= set(pair)
    }
    ends = [(places[one], places[two]) for one, two in sorted(pairs)]
    return [Other(a.x, a.y, b.x, b.y, f"{a.name} and {b.name}") for a, b in ends]


def _line(places: Mapping[str, Dot], link: Link, near: str) -> Line | None:
    if link.state == "heard" or near not in places:
        return None  # this node has no link to it, or the one that has is not drawn
    a, b = places[near], places[link.name]
    return Line(a.x, a.y, b.x, b.y, link)


def _spread(count: int) -> list[float]:
    return [WIDTH * (at + 1) / (count + 1) for at in range(count)]


def _places(count: int, top: float) -> list[tuple[float, float]]:
    """On an ellipse, the first at its top; many on two of them, and the last amid them."""
    amid = (WIDTH / 2, (top + HEIGHT - 54) / 2)
    if count == 1:
        return [amid]
    if count > LABELS_MAX:
        return [*_ring(count - 1, top, 2), amid]
    return _ring(count, top, 1)


def _ring(count: int, top: float, rings: int) -> list[tuple[float, float]]:
    turns = [(1 - 0.3 * (at % rings), 2 * math.pi * at / count) for at in range(count)]
    places = [(size * math.sin(turn), -size * math.cos(turn)) for size, turn in turns]
    lowest = max(y for _, y in places)
    wide, high = WIDTH / 2 - 62, (HEIGHT - 54 - top) / (1 + lowest)
    return [(WIDTH / 2 + wide * x, top + high * (1 + y)) for x, y in places]


def _node(member: Mapping[str, Any]) -> str:
    return str(member.get("name", "")).partition("/")[0]


def _cloud(cloud: Mapping[str, Any], election: Mapping[str, Any], now_ms: int) -> Link:
    """A cloud peer as the gateway tells every node of it."""
    name = str(cloud["node_id"])
    reason = (election.get("troubles") or {}).get(name, "")
    if not cloud.get("enabled", True):
        state = "disabled"
    elif name in (election.get("connected") or []):
        state = "connected"
    else:
        state = "backoff" if reason else "connecting"
    row = {"state": state, "reason": reason, "address": cloud.get("address", "")}
    return _link(name, "cloud", row, now_ms)._replace(via=str(election.get("gateway") or ""))


def _link(name: str, kind: str, row: Mapping[str, Any], now_ms: int) -> Link:
    expires = row.get("token_expires")
    return Link(
        name,
        kind,
        str(row.get("state", "connecting")),
        str(row.get("address") or ""),
        str(row.get("reason") or ""),
        row.get("since"),
        row.get("behind_in"),
        row.get("behind_out"),
        row.get("seconds_in"),
        row.get("seconds_out"),
        None if expires is None else max(0, int(expires - now_ms / 1000)),
        "",
    )
