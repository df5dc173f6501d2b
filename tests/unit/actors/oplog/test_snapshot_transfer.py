"""A snapshot on its way: both halves of it at the receiver, with givers that fail in every way."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from itertools import pairwise

import pytest

from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.oplog.snapshots import IDLE_SECONDS_MAX, MERGE_SECONDS_MAX
from entgldb.actors.session.snapshot_taking import (
    IN_FLIGHT_MAX,
    PATIENCE_FIRST,
    PATIENCE_MAX,
    Ends,
    SnapshotTaking,
)
from entgldb.actors.store.snapshots import install
from entgldb.messages import wire
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason
from entgldb.messages.limits import (
    CHUNK_BYTES_MAX,
    NAME_CHARS_MAX,
    SNAPSHOT_BYTES_MAX,
    SNAPSHOT_CHUNKS_MAX,
    SNAPSHOT_ROWS_MAX,
)
from entgldb.messages.local.actors import SessionEnded
from entgldb.messages.local.snapshots import (
    InstallSnapshot,
    LeaveSnapshot,
    SnapshotInstalled,
    SnapshotStaged,
    StageChunk,
    StageSnapshot,
    StoreBegan,
)
from entgldb.messages.model import Vector
from entgldb.messages.schema import Message
from entgldb.messages.settings import OplogSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.unit.actors.session.test_session import ListLog

VECTOR = {"x/" + "1" * 32: (9, b"h")}


class Staged:
    """``ports.StagedSnapshot``: takes what comes, or raises."""

    def __init__(self) -> None:
        self.next = 0
        self.fault: EntglError | None = None
        self.dropped = False

    def take(self, number: int, payload: bytes, digest: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.next = number + 1

    def finish(self, snapshot_id: str, *, whole: bool) -> str:
        return f"file:{snapshot_id}"

    def close(self) -> None:
        """It stays."""

    def drop(self) -> None:
        self.dropped = True


class Shelf:
    """``ports.SnapshotShelf`` for what comes in: keeps what was staged, as files do."""

    def __init__(self) -> None:
        self.staged: dict[str, Staged] = {}

    def freeze(self, now_ms: int) -> None:
        raise AssertionError("nothing is given")

    def discard(self, snapshot_id: str) -> None:
        raise AssertionError("nothing is given")

    def stage(self, snapshot_id: str) -> Staged:
        found = self.staged.get(snapshot_id)
        if found is None or found.dropped:
            found = self.staged[snapshot_id] = Staged()
        return found


class Disk:
    """``ports.Disk`` with as much room as a test says."""

    def __init__(self) -> None:
        self.free: int | None = None

    def free_bytes(self) -> int | None:
        return self.free


class Receiver:
    """Oplog, and the taking half of some sessions; ``settle`` hands over what they say to each other."""

    def __init__(self, *sessions: str, log: ListLog | None = None, cloud: bool = False) -> None:
        self.cloud = cloud
        self.ctx, self.shelf, self.disk = FakeContext(), Shelf(), Disk()
        self.log = log or ListLog()
        self.counts: Counter[Reason] = Counter()
        self.sent: dict[str, list[Message]] = {name: [] for name in sessions}
        self.merges: list[InstallSnapshot] = []
        self.started_anew()
        self.takers = {name: self._taker(name) for name in sessions}

    def started_anew(self) -> None:
        """Oplog begins a life; what is staged is on disk."""
        self.oplog = OplogKeeper(
            OplogSettings("n", "/nowhere"), Trusting(), log=self.log, shelf=self.shelf, disk=self.disk
        )
        self.ctx.behaviour = self.oplog

    def _taker(self, name: str) -> SnapshotTaking:
        def send(message: Message) -> bool:
            self.sent[name].append(message)
            return True

        ends = Ends(f"sync:{name}", "sync", name, self.cloud)
        return SnapshotTaking(ends, self.log, send, lambda reason: self.counts.update([reason]))

    def settle(self) -> None:
        """Deliver messages until none is left."""
        while told := self.ctx.told:
            self.ctx.told = []
            for actor, message in told:
                if isinstance(message, InstallSnapshot):
                    self.merges.append(message)
                elif isinstance(message, SnapshotStaged):
                    self.takers[message.session.removeprefix("sync:")].staged(message, self.ctx)
                elif actor == "oplog":
                    self.oplog.handle(message, self.ctx)

    def offer(self, name: str, snapshot_id: str, chunks: int = 5, size: int = SNAPSHOT_BYTES_MAX) -> None:
        self.takers[name].offered(wire.SnapshotOffer(snapshot_id, VECTOR, chunks, 1, size), self.ctx)
        self.settle()

    def give(self, name: str, *, damaged: bool = False, size: int = 0) -> None:
        """Answer the oldest question for a chunk, once if it was asked again."""
        want = next(one for one in self.sent[name] if isinstance(one, wire.SnapshotWant))
        self.sent[name] = [one for one in self.sent[name] if one != want]
        payload = b"chunk %d" % want.chunk + bytes(size)
        chunk = wire.SnapshotChunk(want.id, want.chunk, payload, sha256(payload).digest())
        if damaged:
            chunk = wire.SnapshotChunk(want.id, want.chunk, payload + b"?", chunk.sha256)
        self.takers[name].came(chunk, self.ctx)
        self.settle()

    def give_all(self, name: str, chunks: int) -> None:
        for _ in range(chunks):
            self.give(name)

    def wanted(self, name: str) -> list[int]:
        """Chunks asked for and not given."""
        return [one.chunk for one in self.sent[name] if isinstance(one, wire.SnapshotWant)]

    def wait(self, seconds: float) -> None:
        """Heartbeats, one a second."""
        for _ in range(int(seconds)):
            self.ctx.run(1.0)
            for taker in self.takers.values():
                taker.beat(self.ctx)
            self.settle()

    def merged(self, refused: str = "") -> list[bool]:
        """The store is through with the last merge that was ordered."""
        last = self.merges[-1]
        done = SnapshotInstalled(last.session, last.id, {} if refused else VECTOR, refused)
        self.oplog.handle(done, self.ctx)
        return [taker.installed(done) for taker in self.takers.values()]


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


@pytest.mark.parametrize("name", ["", "a\0b", "../b", "*", "\u00e9", "a" * (NAME_CHARS_MAX + 1)])
def test_a_name_that_no_snapshot_has_comes_to_no_file(name: str) -> None:
    one = Receiver("a")
    one.offer("a", name)
    assert one.shelf.staged == {}
    assert one.sent["a"] == [wire.SnapshotEnd(name, Reason.SNAPSHOT_USELESS.value)]


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


def test_a_malformed_snapshot_is_thrown_away_and_not_taken_again_at_once() -> None:
    one = Receiver("a")
    one.offer("a", "s")
    one.shelf.staged["s"].fault = ProtocolError("a row without a key")
    one.give("a")
    assert one.shelf.staged["s"].dropped
    assert one.counts[Reason.BAD_ENTRY] == 1
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.BAD_ENTRY.value)


def test_a_full_disk_keeps_what_has_come() -> None:
    one = Receiver("a")
    one.offer("a", "s")
    one.give("a")
    one.shelf.staged["s"].fault = EntglError("no room", code=ErrorCode.DISK_FULL)
    one.give("a")
    assert not one.shelf.staged["s"].dropped
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", Reason.DISK_FULL.value)
    one.shelf.staged["s"].fault = None
    one.sent["a"].clear()
    one.offer("a", "s")
    assert one.wanted("a")[0] == 1


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


def test_a_cloud_does_not_say_that_own_writes_are_issued_again() -> None:
    for cloud, believed in ((True, ""), (False, ListLog().origin)):
        one = Receiver("a", cloud=cloud)
        offer = wire.SnapshotOffer("s", VECTOR, 1, 1, 100, rebase=one.log.origin)
        one.takers["a"].offered(offer, one.ctx)
        one.settle()
        one.give("a")
        assert [merge.rebase for merge in one.merges] == [believed]
        assert one.counts[Reason.NOT_ALLOWED] == int(cloud)


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


def test_a_merge_that_takes_long_is_ordered_once_and_nothing_else_is_staged_meanwhile() -> None:
    two = Receiver("a", "b")
    two.offer("a", "sa", 2)
    two.give_all("a", 2)
    before = two.counts[Reason.GAP]
    two.wait(90)
    assert len(two.merges) == 1
    assert two.counts[Reason.GAP] == before
    two.offer("b", "sb")
    two.oplog.handle(SessionEnded("sync:a"), two.ctx)
    two.offer("b", "sb")
    assert two.wanted("b") == []
    assert list(two.shelf.staged) == ["sa"]
    assert two.merged() == [True, False]
    two.offer("b", "sb")
    assert two.wanted("b") == [0]


def test_a_merge_that_died_with_the_store_is_ordered_again() -> None:
    one = Receiver("a")
    one.offer("a", "s", 2)
    one.give_all("a", 2)
    one.oplog.handle(StoreBegan(), one.ctx)
    one.wait(PATIENCE_FIRST + 2)
    assert len(one.merges) == 2


def test_a_merge_that_nobody_ever_tells_of_is_ordered_again_at_last() -> None:
    one = Receiver("a")
    one.offer("a", "s", 2)
    one.give_all("a", 2)
    one.wait(MERGE_SECONDS_MAX - 20)
    assert len(one.merges) == 1
    one.wait(40)
    assert len(one.merges) == 2


def test_an_oplog_that_starts_anew_goes_on_with_what_is_on_disk() -> None:
    one = Receiver("a")
    one.offer("a", "s", 9)
    one.give_all("a", 4)
    one.started_anew()
    one.sent["a"].clear()
    one.wait(PATIENCE_FIRST + 2)
    assert set(one.wanted("a")) == {4}


@pytest.mark.parametrize("refused", [Reason.HELD_CLOCK, Reason.DISK_FULL, Reason.TOO_MANY_ORIGINS])
def test_one_that_cannot_be_merged_now_stays_and_is_not_offered_again_at_once(refused: Reason) -> None:
    one = Receiver("a")
    one.offer("a", "s", 2)
    one.give_all("a", 2)
    assert one.merges[-1].peer == "a"
    one.merged(refused.value)
    assert not one.shelf.staged["s"].dropped
    assert (one.oplog.counts[refused.value], one.counts[refused]) == (1, 1)
    assert one.sent["a"][-1] == wire.SnapshotEnd("s", refused.value)
    one.offer("a", "s", 2)
    assert len(one.merges) == 2


def test_a_node_without_a_shelf_takes_none() -> None:
    ctx = FakeContext()
    oplog = OplogKeeper(OplogSettings("n", "/nowhere"), Trusting(), log=ListLog())
    oplog.handle(StageSnapshot("sync", "sync:a", "s", 1, False, "", 1), ctx)
    (answer,) = ctx.take(SnapshotStaged)
    assert answer.refused == Reason.BEHIND_SNAPSHOT.value


class Recorded(ListLog):
    """A log that has everything, some of it only recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.lacks = True
        self.known = VECTOR

    def vector(self) -> Vector:
        return self.known

    def unapplied(self, rows_max: int, after: tuple[str, int] = ("", 0)) -> list[tuple[str, int]]:
        return [("x/" + "1" * 32, 9)] if self.lacks else []


def test_a_state_is_taken_for_what_is_only_recorded_but_not_again_in_vain() -> None:
    one = Receiver("a", log=Recorded())
    one.offer("a", "s", 1)
    one.give("a")
    last = one.merges[-1]
    one.takers["a"].installed(SnapshotInstalled(last.session, last.id, {}))
    one.sent["a"].clear()
    one.offer("a", "s2", 1)
    assert one.sent["a"] == [wire.SnapshotEnd("s2", Reason.SNAPSHOT_USELESS.value)]


def test_a_state_that_brings_nothing_is_useless() -> None:
    log = Recorded()
    log.lacks = False
    one = Receiver("a", log=log)
    one.offer("a", "s", 1)
    assert one.sent["a"] == [wire.SnapshotEnd("s", Reason.SNAPSHOT_USELESS.value)]


@pytest.mark.parametrize(("ours", "asked"), [(8, False), (9, True)])
def test_a_state_with_more_of_an_origin_in_quarantine_is_not_fetched_at_all(
    ours: int, *, asked: bool
) -> None:
    log = Recorded()
    (origin,) = VECTOR
    log.set_apart = {origin}
    log.known = {origin: (ours, b"h")}
    one = Receiver("a", log=log)
    one.offer("a", "s", 1)
    declined = wire.SnapshotEnd("s", Reason.QUARANTINED.value)
    assert (declined in one.sent["a"]) is not asked
    assert one.counts[Reason.QUARANTINED] == (not asked)


class Broken:
    """A store whose merge fails for a reason of its own."""

    origin = "me/1"

    def last_lsn(self) -> int:
        return 0

    def install(self, *_: object, **__: object) -> None:
        raise ValueError("a bug")


def test_a_merge_that_meets_a_bug_is_told_of() -> None:
    ctx = FakeContext()
    order = InstallSnapshot("sync", "sync:a", "s", "file:s", False, "")
    install(Broken(), order, None, ctx)  # type: ignore[arg-type]  # of the store it needs no more
    assert [(actor, told.refused) for actor, told in ctx.told if isinstance(told, SnapshotInstalled)] == [
        ("oplog", Reason.HANDLER_FAILED.value),
        ("sync", Reason.HANDLER_FAILED.value),
    ]
