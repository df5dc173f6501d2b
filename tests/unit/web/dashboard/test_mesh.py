"""The picture of the mesh: what is drawn, where, and how much at most."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.web.dashboard.mesh import (
    DOTS_MAX,
    HEIGHT,
    LABELS_MAX,
    LINKS_MAX,
    WIDTH,
    Link,
    links,
    picture,
)

NOW = 1_800_000_000_000


def peer(name: str, state: str = "connected", behind: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"node_id": name, "state": state, "behind_in": behind, "behind_out": behind, **more}


def status(*peers: dict[str, Any], **parts: dict[str, Any]) -> dict[str, Any]:
    """That of lan-1, which leads."""
    election = {"gateway": "lan-1", "epoch": 3, "connected": [], "troubles": {}, "candidates": []}
    return {"node_id": "lan-1", "sync": {"peers": list(peers)}, "election": election, **parts}


def cloud(name: str, *, enabled: bool = True) -> dict[str, Any]:
    return {"node_id": name, "address": f"{name}:9000", "enabled": enabled}


def named(found: list[Link]) -> dict[str, Link]:
    return {one.name: one for one in found}


def test_a_link_tells_its_state_its_lag_and_how_long_its_token_lives() -> None:
    gateway = {"links": [peer("c1", behind=4, token_expires=NOW / 1000 + 90.4, since=NOW - 5)]}
    found = named(links(status(peer("lan-2"), gateway=gateway), [cloud("c1")], NOW))
    assert (found["lan-2"].state, found["lan-2"].in_step) == ("connected", True)
    c1 = found["c1"]
    assert (c1.kind, c1.behind_in, c1.in_step, c1.token_seconds, c1.via) == ("cloud", 4, False, 90, "")
    assert (c1.since_ms, found["lan-2"].token_seconds) == (NOW - 5, None)


def test_a_node_that_does_not_lead_knows_of_clouds_what_the_gateway_tells() -> None:
    election = {"gateway": "lan-2", "epoch": 3, "connected": ["c1"], "troubles": {"c2": "unreachable"}}
    told = {**status(peer("lan-2")), "election": election}
    clouds = [cloud("c1"), cloud("c2"), cloud("c3", enabled=False), cloud("c4")]
    found = named(links(told, clouds, NOW))
    assert {name: one.state for name, one in found.items() if one.kind == "cloud"} == {
        "c1": "connected",
        "c2": "backoff",
        "c3": "disabled",
        "c4": "connecting",
    }
    assert (found["c1"].via, found["c1"].behind_in, found["c2"].reason) == ("lan-2", None, "unreachable")
    lines = {line.link.name: line for line in picture(told, list(found.values())).lines}
    leader = next(dot for dot in picture(told, list(found.values())).dots if dot.name == "lan-2")
    assert (lines["c1"].x1, lines["c1"].y1) == (leader.x, leader.y)


def test_nodes_that_others_speak_of_are_there_without_a_link_and_silent_ones_are_absent() -> None:
    members = [
        {"name": "lan-1", "heard_ms": NOW},
        {"name": "lan-2/0123", "heard_ms": NOW - 5_000},
        {"name": "lan-3", "heard_ms": NOW - 500_000},
    ]
    told = status(sync={"peers": [], "members": members, "now_ms": NOW})
    found = links(told, [], NOW)
    assert [(one.name, one.state) for one in found] == [("lan-3", "absent"), ("lan-2", "heard")]
    drawn = picture(told, found)
    assert {dot.name: dot.state for dot in drawn.dots} == {
        "lan-1": "connected",
        "lan-2": "heard",
        "lan-3": "absent",
    }
    assert [line.link.name for line in drawn.lines] == ["lan-3"]


def test_links_between_other_nodes_are_drawn_once_where_there_is_room_for_names() -> None:
    told = status(
        peer("lan-2", near=["lan-1", "lan-3", "lan-9"]),
        peer("lan-3", near=["lan-1", "lan-2"]),
        peer("lan-4", near=None),
        peer("lan-5"),
    )
    made = picture(told, links(told, [], NOW))
    (other,) = made.others
    places = {dot.name: (dot.x, dot.y) for dot in made.dots}
    assert other.names == "lan-2 and lan-3"
    assert ((other.x1, other.y1), (other.x2, other.y2)) == (places["lan-2"], places["lan-3"])
    names = [f"n{number}" for number in range(LABELS_MAX + 1)]
    many = status(*(peer(name, near=names) for name in names))
    assert picture(many, links(many, [], NOW)).others == []


def test_a_cloud_node_draws_its_guests() -> None:
    sync = {"peers": [peer("lan-1", token_expires=NOW / 1000 + 9)]}
    told = {"node_id": "cloud-1", "role": "cloud", "sync": sync, "election": {"gateway": None}}
    drawn = picture(told, links(told, [], NOW))
    assert [(line.link.name, line.link.token_seconds) for line in drawn.lines] == [("lan-1", 9)]


@pytest.mark.parametrize("count", [0, 1, 2, 5, LABELS_MAX, 40, 500])
def test_the_picture_is_bounded_and_nothing_is_drawn_outside(count: int) -> None:
    peers = [
        peer(f"node-{number:03}", "absent" if number == count - 1 else "connected") for number in range(count)
    ]
    clouds = [cloud(f"c{number}") for number in range(count)]
    told = status(*peers)
    drawn = picture(told, links(told, clouds, NOW))
    assert len(drawn.dots) <= DOTS_MAX + LABELS_MAX
    assert len(drawn.links) <= LINKS_MAX
    assert len(drawn.dots) - 1 + drawn.left_out == 2 * count
    assert all(20 <= dot.x <= WIDTH - 20 and 20 <= dot.y <= HEIGHT - 40 for dot in drawn.dots)
    assert len({(round(dot.x), round(dot.y)) for dot in drawn.dots}) == len(drawn.dots)
    names = {dot.name for dot in drawn.dots}
    assert "lan-1" in names
    assert not count or f"node-{count - 1:03}" in names, "the one in trouble is drawn"
    assert [dot.name for dot in drawn.dots if dot.leads] == ["lan-1"]
