"""Givers of a snapshot that fail in every way: they are waited for, left, or not believed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from entgldb.actors.oplog.snapshots import IDLE_SECONDS_MAX
from entgldb.actors.session.snapshot_taking import PATIENCE_MAX
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import (
    CHUNK_BYTES_MAX,
    NAME_CHARS_MAX,
    SNAPSHOT_BYTES_MAX,
    SNAPSHOT_CHUNKS_MAX,
    SNAPSHOT_ROWS_MAX,
)
from entgldb.messages.local.actors import SessionEnded
from entgldb.messages.local.snapshots import LeaveSnapshot
from tests.unit.actors.oplog.snapshot_rig import VECTOR, Receiver


@pytest.mark.parametrize("name", ["", "a\0b", "../b", "*", "\u00e9", "a" * (NAME_CHARS_MAX + 1)])
def test_a_name_that_no_snapshot_has_comes_to_no_file(name: str) -> None:
    one = Receiver("a")
    one.offer("a", name)
    assert one.shelf.staged == {}
    assert one.sent["a"] == [wire.SnapshotEnd(name, Reason.SNAPSHOT_USELESS.value)]


def test_only_one_is_taken_at_a_time_and_the_other_waits() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa")
    two.offer("b", "sb")
    assert two.wanted("b") == []
    assert two.counts[Reason.BEHIND_SNAPSHOT] == 1
    # it may be offered again at once: nothing was declined
    assert two.sent["b"] == []


def test_when_the_giver_has_it_no_more_another_may_give() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa")
    two.give("a")
    two.takers["a"].ended(wire.SnapshotEnd("sa", Reason.SNAPSHOT_GONE.value), two.ctx)
    two.settle()
    two.offer("b", "sb")
    assert two.wanted("b") == [0]


def test_the_end_of_another_snapshot_ends_nothing() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa")
    two.takers["a"].ended(wire.SnapshotEnd("old", Reason.SNAPSHOT_GONE.value), two.ctx)
    two.oplog.handle(LeaveSnapshot("sync:b", "sa"), two.ctx)
    two.settle()
    two.offer("b", "sb")
    assert two.wanted("b") == []


def test_a_giver_that_never_answers_keeps_others_out_for_a_minute_only() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa")
    two.wait(IDLE_SECONDS_MAX - 5)
    two.offer("b", "sb")
    assert two.wanted("b") == []
    two.wait(10)
    two.offer("b", "sb")
    assert two.wanted("b") == [0]
    two.give_all("b", 5)
    assert [order.session for order in two.merges] == ["sync:b"]


def test_a_slow_giver_is_not_left() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa", 10)
    for _ in range(9):
        two.give("a", size=CHUNK_BYTES_MAX)
        two.wait(IDLE_SECONDS_MAX - 5)
        two.offer("b", "sb")
        assert two.wanted("b") == []


def test_a_giver_of_hardly_a_byte_now_and_then_does_not_keep_others_out() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa", 10)
    for _ in range(2):
        two.give("a")
        two.wait(IDLE_SECONDS_MAX - 5)
    two.offer("b", "sb")
    assert two.wanted("b") == [0]


def test_what_is_larger_than_its_offer_said_is_thrown_away() -> None:
    one = Receiver("a")
    one.offer("a", "s", 5, size=20)
    one.give("a", size=10)
    one.give("a", size=10)
    assert one.shelf.staged["s"].dropped
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.BAD_ENTRY.value)


@pytest.mark.parametrize(
    "size",
    [
        (SNAPSHOT_CHUNKS_MAX + 1, 1, 1),
        (1, SNAPSHOT_ROWS_MAX + 1, 1),
        (1, 1, SNAPSHOT_BYTES_MAX + 1),
    ],
)
def test_an_offer_of_more_than_any_snapshot_has_is_declined(size: tuple[int, int, int]) -> None:
    one = Receiver("a")
    one.takers["a"].offered(wire.SnapshotOffer("s", VECTOR, *size), one.ctx)
    assert one.sent["a"] == [wire.SnapshotEnd("s", Reason.TOO_LARGE.value)]
    assert one.counts[Reason.TOO_LARGE] == 1


def test_a_session_that_is_over_keeps_nobody_out_and_its_chunks_are_gone_on_with() -> None:
    two = Receiver("a", "b")
    two.offer("a", "s")
    two.give_all("a", 3)
    two.oplog.handle(SessionEnded("sync:a"), two.ctx)
    two.offer("b", "s")
    assert two.wanted("b")[0] == 3


def test_a_stall_is_met_with_one_question_and_more_and_more_patience() -> None:
    one = Receiver("a")
    one.offer("a", "s", 9)
    one.give_all("a", 3)
    asked = []
    for second in range(200):
        one.sent["a"].clear()
        one.wait(1)
        if one.wanted("a"):
            assert one.wanted("a") == [3]
            asked.append(second)
    assert 3 <= len(asked) <= 9
    assert max(later - earlier for earlier, later in pairwise(asked)) <= PATIENCE_MAX + 1


def test_a_chunk_that_takes_long_is_waited_for_as_long() -> None:
    one = Receiver("a")
    one.offer("a", "s", 20)
    one.give_all("a", 2)
    for _ in range(3):  # now one knows the line
        one.wait(9)
        one.give("a")
    before = one.counts[Reason.GAP]
    for _ in range(5):
        one.wait(14)
        one.give("a")
    assert one.counts[Reason.GAP] == before
