"""When the dialler wants to look again: at once where something is due, seldom where nothing is."""

from __future__ import annotations

from typing import Any, cast

from entgldb.actors.sync.dialler import FAILURES_TOLD_MAX, HINTS_MAX, LOOK_MAX, LOOK_MIN, Dialler
from tests.support.fake_context import FakeContext


class Numbers:
    """Links that only number what is dialled."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    def dial(self, address: str) -> int:
        self.dialled.append(address)
        return len(self.dialled)


def test_it_looks_seldom_while_all_are_connected_and_soon_after_a_failure() -> None:
    ctx, links = cast(Any, FakeContext()), Numbers()
    ctx.run(100.0)  # a machine that has been up for a while
    dialler = Dialler("a", cast(Any, links), ["127.0.0.1:1"])
    dialler.dial(set(), ctx)
    assert links.dialled == ["127.0.0.1:1"]
    assert dialler.due_in(set(), ctx) == LOOK_MAX
    dialler.ended(1, "unreachable", ctx)
    assert LOOK_MIN <= dialler.due_in(set(), ctx) <= 0.25
    dialler.found("b", "127.0.0.1:1")
    dialler.reached("b", 1)
    assert dialler.due_in({"b"}, ctx) == LOOK_MAX


def test_a_flood_of_hints_takes_no_address_that_has_worked_nor_a_seed() -> None:
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("a", cast(Any, links), ["10.0.0.9:1"])
    dialler.dial(set(), ctx)
    dialler.found("b", "10.0.0.2:1", worked=True)
    dialler.found("c", "10.0.0.3:1")
    dialler.dial(set(), ctx)
    dialler.identified("c", 3)
    dialler.ended(3, "peer-closed", ctx)
    for number in range(2 * HINTS_MAX):
        dialler.found(f"x{number}", f"10.9.{number // 250}.{number % 250}:1")
    links.dialled.clear()
    ctx.run(1000.0)
    dialler.dial(set(), ctx)
    assert len(links.dialled) <= HINTS_MAX
    assert "10.0.0.3:1" in links.dialled
    dialler.ended(2, "unreachable", ctx)
    ctx.run(1000.0)
    dialler.dial(set(), ctx)
    assert "10.0.0.2:1" in links.dialled


def test_a_forged_hint_makes_nobody_forget_who_answers_at_an_address() -> None:
    """b listens at an address that an announcement says is c's, and c is connected."""
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("a", cast(Any, links), [])
    dialler.found("b", "10.0.0.2:1", worked=True)
    dialler.found("c", "10.0.0.2:1")
    dialler.dial({"c"}, ctx)
    assert links.dialled == ["10.0.0.2:1"]


def test_two_nodes_that_have_swapped_their_addresses_meet_by_what_a_third_tells() -> None:
    """a is at b's old address now: what it remembers of b answers as a itself."""
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("a", cast(Any, links), [])
    dialler.found("b", "10.0.0.2:1", worked=True)
    dialler.dial(set(), ctx)
    dialler.identified("a", 1)
    dialler.ended(1, "wrong-node", ctx)
    dialler.told({"b": "10.0.0.1:1"})
    dialler.dial(set(), ctx)
    assert links.dialled == ["10.0.0.2:1", "10.0.0.1:1"]
    ctx.run(1000.0)
    dialler.dial(set(), ctx)
    assert links.dialled == ["10.0.0.2:1", "10.0.0.1:1"], "its own address is dialled no more"


def test_an_address_that_answers_as_somebody_else_is_learnt_for_that_one() -> None:
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("c", cast(Any, links), [])
    dialler.found("a", "10.0.0.1:1", worked=True)
    dialler.dial(set(), ctx)
    dialler.identified("b", 1)
    dialler.reached("b", 1)
    dialler.ended(1, "peer-closed", ctx)
    ctx.run(1.0)
    dialler.dial({"b"}, ctx)
    assert links.dialled == ["10.0.0.1:1"], "b is connected by another way"
    dialler.dial(set(), ctx)
    assert links.dialled == ["10.0.0.1:1"] * 2


def test_a_worked_address_that_is_claimed_for_another_is_tried_until_that_one_is_met() -> None:
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("c", cast(Any, links), [])
    dialler.found("a", "10.0.0.1:1", worked=True)
    dialler.dial({"a"}, ctx)
    assert links.dialled == []
    dialler.told({"b": "10.0.0.1:1"})
    dialler.dial({"a"}, ctx)
    assert links.dialled == ["10.0.0.1:1"]
    dialler.ended(1, "duplicate-link", ctx)
    ctx.run(1.0)
    dialler.dial({"a", "b"}, ctx)
    assert links.dialled == ["10.0.0.1:1"]


def test_status_tells_who_was_dialled_in_vain_and_why() -> None:
    ctx, links = cast(Any, FakeContext()), Numbers()
    dialler = Dialler("a", cast(Any, links), [f"10.0.0.{number}:1" for number in range(40)])
    dialler.dial(set(), ctx)
    for link in range(1, 41):
        dialler.ended(link, "unreachable", ctx, "no answer in time")
    rows = dialler.failures(set(), ctx)
    assert len(rows) == FAILURES_TOLD_MAX
    assert dialler.dialled == 40
    assert rows[0]["reason"] == "unreachable"
    assert rows[0]["text"] == "no answer in time"
    assert 0 < rows[0]["again_in"] <= 0.25
    dialler.found("b", "10.0.0.0:1")
    dialler.ended(1, "unreachable", ctx)
    assert "10.0.0.0:1" not in [row["address"] for row in dialler.failures({"b"}, ctx)]
