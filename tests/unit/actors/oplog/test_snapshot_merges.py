"""The merge of a snapshot that has come: ordered once, again where it died, and not for nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from entgldb.actors.oplog.snapshots import MERGE_SECONDS_MAX
from entgldb.actors.session.snapshot_taking import PATIENCE_FIRST
from entgldb.actors.store.snapshots import Merging
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import SessionEnded
from entgldb.messages.local.snapshots import (
    InstallSnapshot,
    SnapshotInstalled,
    StoreBegan,
)
from entgldb.messages.model import Vector
from entgldb.storage.rules.results import Installed
from tests.support.fake_context import FakeContext
from tests.unit.actors.oplog.snapshot_rig import VECTOR, Receiver
from tests.unit.actors.session.list_log import ListLog


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


class Recorded(ListLog):
    """A log that has everything, some of it only recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.records = True
        self.known = VECTOR

    def vector(self) -> Vector:
        return self.known

    def unapplied(self, rows_max: int, after: tuple[str, int] = ("", 0)) -> list[tuple[str, int]]:
        return [("x/" + "1" * 32, 9)] if self.records else []


def test_a_state_is_taken_for_what_is_only_recorded_but_not_again_in_vain() -> None:
    one = Receiver("a", log=Recorded())
    one.offer("a", "s", 1)
    one.give("a")
    last = one.merges[-1]
    one.takers["a"].installed(SnapshotInstalled(last.session, last.id, {}))
    one.sent["a"].clear()
    one.offer("a", "s2", 1)
    assert one.sent["a"] == [wire.SnapshotEnd("s2", Reason.SNAPSHOT_USELESS.value)]


def test_a_state_that_goes_further_than_one_taken_in_vain_is_taken() -> None:
    """The first was frozen before the giver had what is lacking here."""
    log = Recorded()
    (origin,) = VECTOR
    log.known = {origin: (20, b"h")}
    one = Receiver("a", log=log)
    for number, (seq, taken) in enumerate([(9, True), (9, False), (10, True), (9, False)]):
        one.sent["a"].clear()
        offer = wire.SnapshotOffer(f"s{number}", {origin: (seq, b"h")}, 1, 1, 1000)
        one.takers["a"].offered(offer, one.ctx)
        one.settle()
        refused = wire.SnapshotEnd(offer.id, Reason.SNAPSHOT_USELESS.value)
        assert (refused not in one.sent["a"]) is taken
        if taken:
            one.give("a")
            done = SnapshotInstalled(one.merges[-1].session, offer.id, {})
            one.oplog.handle(done, one.ctx)
            one.takers["a"].installed(done)


def test_a_state_that_brings_nothing_is_useless() -> None:
    log = Recorded()
    log.records = False
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

    def install_step(self, *_: object, **__: object) -> Installed:
        raise ValueError("a bug")


def test_a_merge_that_meets_a_bug_is_told_of() -> None:
    ctx = FakeContext()
    order = InstallSnapshot("sync", "sync:a", "s", "file:s", False, "")
    merging = Merging(lambda reason, times: None)
    merging.begin(order)
    merging.step(Broken(), None, ctx, ends=True)  # type: ignore[arg-type]  # of the store it needs no more
    assert [(actor, told.refused) for actor, told in ctx.told if isinstance(told, SnapshotInstalled)] == [
        ("oplog", Reason.HANDLER_FAILED.value),
        ("sync", Reason.HANDLER_FAILED.value),
    ]


class Lossy(Broken):
    """Its branch of a log had what can be kept nowhere."""

    def install_step(self, *_: object, **__: object) -> Installed:
        return Installed({}, lost={"invalid": 2})


def test_what_a_merge_could_keep_nowhere_is_counted() -> None:
    counts = Counter[str]()
    merging = Merging(lambda reason, times: counts.update({reason: times}))
    merging.begin(InstallSnapshot("sync", "sync:a", "s", "file:s", False, ""))
    merging.step(Lossy(), None, FakeContext(), ends=True)  # type: ignore[arg-type]  # of the store it needs no more
    assert counts == {"invalid": 2}
