"""A snapshot on its way: its chunks are asked for, checked, kept and gone on with, or thrown away."""

from __future__ import annotations

from hashlib import sha256

from entgldb.actors.oplog.snapshots import MERGE_SECONDS_MAX, SNAPSHOT_SECONDS
from entgldb.actors.session.snapshot_taking import IN_FLIGHT_MAX, PATIENCE_FIRST, PATIENCE_MIN
from entgldb.messages import wire
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason
from entgldb.messages.local.actors import SessionEnded, Tick
from entgldb.messages.local.snapshots import StageChunk
from entgldb.messages.settings import OplogSettings
from tests.unit.actors.oplog.snapshot_rig import Receiver


def test_chunks_are_asked_for_one_by_one_at_first_and_then_a_few_at_a_time() -> None:
    one = Receiver("a")
    one.offer("a", "s", 20)
    assert one.wanted("a") == [0]
    for _ in range(12):
        one.give("a")
        assert len(one.wanted("a")) <= IN_FLIGHT_MAX
    assert len(one.wanted("a")) == IN_FLIGHT_MAX
    one.give_all("a", 7)
    assert one.ctx.steps == []
    one.give("a")
    assert one.ctx.steps == ["indexing a snapshot"]
    assert [(order.id, order.staged) for order in one.merges] == [("s", "file:s")]
    assert one.merged() == [True]
    assert one.shelf.staged["s"].dropped


def test_a_damaged_chunk_is_asked_for_again() -> None:
    one = Receiver("a")
    one.offer("a", "s")
    one.give("a")
    one.give("a", damaged=True)
    assert one.oplog.counts[Reason.BAD_ENTRY.value] == 1
    assert one.shelf.staged["s"].next == 1
    one.sent["a"].clear()
    one.wait(PATIENCE_FIRST + 2)
    assert one.wanted("a") == [1]
    one.give_all("a", 4)
    assert len(one.merges) == 1


def test_a_wait_for_what_was_lost_is_no_measure_of_the_line() -> None:
    """Else the next loss on a fast line would be waited for four times as long as the last."""
    one = Receiver("a")
    one.offer("a", "s", 9)
    one.give("a")
    one.sent["a"].clear()  # what it asks for is lost
    one.wait(PATIENCE_FIRST + 1)
    one.give("a")
    one.sent["a"].clear()
    one.wait(PATIENCE_MIN + 1)
    assert one.wanted("a") == [2]


def test_a_malformed_snapshot_is_thrown_away_and_not_taken_again_at_once() -> None:
    one = Receiver("a")
    one.offer("a", "s")
    one.shelf.staged["s"].fault = ProtocolError("a row without a key")
    one.give("a")
    assert one.shelf.staged["s"].dropped
    assert one.counts[Reason.BAD_ENTRY] == 1
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.BAD_ENTRY.value)


def test_a_full_disk_keeps_what_has_come_and_only_that_counts_as_taken() -> None:
    one, size = Receiver("a"), 5 * len(b"chunk 0")
    one.offer("a", "s", 5, size)
    one.give("a")
    one.shelf.staged["s"].fault = EntglError("no room", code=ErrorCode.DISK_FULL)
    one.give("a")
    assert not one.shelf.staged["s"].dropped
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.DISK_FULL.value)
    one.shelf.staged["s"].fault = None
    one.sent["a"].clear()
    one.offer("a", "s", 5, size)
    assert one.wanted("a")[0] == 1
    one.give_all("a", 4)
    assert len(one.merges) == 1


def test_without_room_for_what_is_offered_none_of_it_is_staged() -> None:
    one = Receiver("a")
    floor = OplogSettings("n", "/nowhere").hard_floor
    one.disk.free = floor + 99
    one.offer("a", "s", size=100)
    assert one.shelf.staged == {}
    assert one.sent["a"] == [wire.SnapshotEnd("s", Reason.DISK_FULL.value)]
    assert one.counts[Reason.DISK_FULL] == 1
    one.disk.free = floor + 100
    one.sent["a"].clear()
    one.offer("a", "s", size=100)
    one.give("a")
    one.disk.free = floor
    one.give("a")
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.DISK_FULL.value)
    assert one.shelf.staged["s"].next == 1


def test_what_was_not_asked_for_is_not_taken() -> None:
    one = Receiver("a")
    one.offer("a", "s")
    one.takers["a"].came(wire.SnapshotChunk("s", 3, b"x", sha256(b"x").digest()), one.ctx)
    one.takers["a"].came(wire.SnapshotChunk("other", 0, b"x", sha256(b"x").digest()), one.ctx)
    one.settle()
    assert one.shelf.staged["s"].next == 0
    assert one.counts[Reason.OUT_OF_ORDER] == 2
    # nor by oplog, whatever a session hands over
    for chunk in (StageChunk("sync:a", "s", 2, b"", b""), StageChunk("sync:b", "s", 0, b"", b"")):
        one.oplog.handle(chunk, one.ctx)
    assert one.oplog.counts[Reason.OUT_OF_ORDER.value] == 2
    assert one.shelf.staged["s"].next == 0


def test_an_oplog_that_starts_anew_goes_on_with_what_is_on_disk() -> None:
    one = Receiver("a")
    one.offer("a", "s", 9)
    one.give_all("a", 4)
    one.started_anew()
    one.sent["a"].clear()
    one.wait(PATIENCE_FIRST + 2)
    assert set(one.wanted("a")) == {4}


def test_what_nobody_goes_on_with_for_an_hour_of_the_nodes_life_goes() -> None:
    one = Receiver("a", "b")
    one.offer("a", "s", 9)
    one.give_all("a", 4)
    one.oplog.handle(SessionEnded("sync:a"), one.ctx)
    one.started_anew()
    one.oplog.handle(Tick("release"), one.ctx)
    one.ctx.run(SNAPSHOT_SECONDS - 60)
    assert set(one.shelf.staged) == {"s"}
    one.ctx.run(120.0)
    assert one.shelf.staged == {}
    one.offer("b", "s", 9)
    assert one.wanted("b") == [0]


def test_what_is_coming_in_or_is_merged_does_not_go_however_long_that_takes() -> None:
    one = Receiver("a")
    one.oplog.handle(Tick("release"), one.ctx)
    one.offer("a", "s", 2)
    one.ctx.run(2 * SNAPSHOT_SECONDS)
    one.give_all("a", 2)
    one.ctx.run(MERGE_SECONDS_MAX - 1)
    assert set(one.shelf.staged) == {"s"}
