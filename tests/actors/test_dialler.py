"""When the dialler wants to look again: at once where something is due, seldom where nothing is."""

from __future__ import annotations

from typing import Any, cast

from entgldb.actors.dialler import LOOK_MAX, LOOK_MIN, Dialler
from tests.actors.fake_context import FakeContext


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
