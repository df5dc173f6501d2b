"""A snapshot that should lie ready cannot be read: another is made, not the same offered for an hour."""

from __future__ import annotations

from collections import Counter

import pytest

from entgldb.actors.line import Line
from entgldb.actors.session.snapshot_giving import (
    AGAIN_SECONDS,
    DECLINED_SECONDS,
    VAIN_SECONDS,
    SnapshotGiving,
)
from entgldb.actors.session.snapshot_taking import Ends
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.snapshots import FreezeSnapshot, Frozen, SnapshotFrozen, SnapshotWritten
from entgldb.messages.schema import Message
from tests.support.fake_context import FakeContext
from tests.unit.actors.oplog.keeper_rig import oplog as oplog_of
from tests.unit.actors.session.list_log import ListLog

ORIGIN = "lan-1/" + "ab" * 16


class Shelf:
    """Freezes at once; what is in ``files`` can be read."""

    def __init__(self) -> None:
        self.frozen = 0
        self.files: set[str] = set()

    def freeze(self) -> None:
        self.frozen += 1
        self.files.add(f"s{self.frozen}")

    def discard(self, snapshot_id: str) -> None:
        self.files.discard(snapshot_id)

    def stage(self, snapshot_id: str) -> None:
        raise AssertionError("nothing comes in")

    def chunk(self, snapshot_id: str, number: int) -> tuple[bytes, bytes] | None:
        return (b"rows", b"sum") if snapshot_id in self.files else None


class Pruned(ListLog):
    """A log that begins behind what a new peer has."""

    def floors(self) -> dict[str, int]:
        return {ORIGIN: 1}

    def size(self) -> tuple[int, int]:
        return 1, 1


class Pair:
    """The giving half of a session, and oplog."""

    def __init__(self, *, cloud: bool = False) -> None:
        self.shelf, self.ctx, self.counts = Shelf(), FakeContext(), Counter[Reason]()
        self.sent: list[Message] = []
        self.log = log = Pruned()
        self.oplog = oplog_of(log=log, shelf=self.shelf)  # type: ignore[arg-type]  # nothing is staged
        self.giving = SnapshotGiving(
            Ends("s", "sync", "", cloud),
            log,
            Line(lambda message: self.sent.append(message) or True),  # type: ignore[func-returns-value]  # a list's append
            self.shelf,
            lambda reason: self.counts.update([reason]),
        )

    def look(self) -> None:
        """The peer has nothing: the snapshot that it needs is ordered, made and offered."""
        self.ctx.run(AGAIN_SECONDS)
        assert self.giving.look({}, {}, self.ctx)
        for _, order in self._said(FreezeSnapshot):
            before = self.shelf.frozen
            self.oplog.handle(order, self.ctx)
            if self.shelf.frozen > before:
                written = SnapshotWritten(Frozen(f"s{self.shelf.frozen}", {ORIGIN: (9, b"h")}, 3, 1, 1, 4))
                self.oplog.handle(written, self.ctx)
        for _, frozen in self._said(SnapshotFrozen):
            assert isinstance(frozen, SnapshotFrozen)
            self.giving.frozen(frozen, self.ctx)

    def _said(self, kind: type[Message]) -> list[tuple[str, Message]]:
        found = [told for told in self.ctx.told if isinstance(told[1], kind)]
        self.ctx.told = [told for told in self.ctx.told if told not in found]
        return found

    def want(self, snapshot_id: str, chunk: int = 0) -> Message:
        self.giving.wanted(wire.SnapshotWant(snapshot_id, chunk), self.ctx)
        return self.sent[-1]


def test_one_that_cannot_be_read_any_more_is_made_anew() -> None:
    pair = Pair()
    pair.look()
    assert pair.want("s1") == wire.SnapshotChunk("s1", 0, b"rows", b"sum")
    pair.shelf.files.clear()
    assert pair.want("s1") == wire.SnapshotEnd("s1", Reason.SNAPSHOT_GONE.value)
    pair.look()
    assert pair.want("s2") == wire.SnapshotChunk("s2", 0, b"rows", b"sum")
    assert pair.counts[Reason.SNAPSHOT_GONE] == 1


def test_a_peer_that_asks_for_what_was_not_offered_costs_no_new_one() -> None:
    pair = Pair()
    pair.look()
    assert pair.want("s1", chunk=7) == wire.SnapshotEnd("s1", Reason.SNAPSHOT_GONE.value)
    assert pair.want("s9") == wire.SnapshotEnd("s9", Reason.SNAPSHOT_GONE.value)
    pair.look()
    assert pair.shelf.frozen == 1


def test_a_cloud_is_neither_offered_nor_given_the_chunks_of_the_members() -> None:
    pair = Pair(cloud=True)
    pair.look()
    (offer,) = [one for one in pair.sent if isinstance(one, wire.SnapshotOffer)]
    assert offer.chunks == 1
    assert isinstance(pair.want("s1"), wire.SnapshotChunk)
    assert pair.want("s1", chunk=1) == wire.SnapshotEnd("s1", Reason.SNAPSHOT_GONE.value)
    member = Pair()
    member.look()
    assert isinstance(member.want("s1", chunk=2), wire.SnapshotChunk)


def test_a_peer_that_declines_is_left_alone_for_a_while() -> None:
    pair = Pair()
    pair.look()
    pair.giving.declined(wire.SnapshotEnd("another", Reason.SNAPSHOT_USELESS.value), pair.ctx)
    assert pair.giving.status() is not None
    pair.giving.declined(wire.SnapshotEnd("s1", Reason.SNAPSHOT_USELESS.value), pair.ctx)
    assert pair.giving.status() is None
    assert not pair.giving.look({}, {}, pair.ctx)
    pair.ctx.run(DECLINED_SECONDS - 1)
    assert not pair.giving.look({}, {}, pair.ctx)
    pair.ctx.run(1)
    pair.look()
    assert pair.giving.status() is not None


@pytest.mark.parametrize("asks", [False, True])
def test_one_that_does_not_have_what_a_peer_asks_for_is_made_anew(*, asks: bool) -> None:
    pair = Pair()
    pair.look()
    if asks:
        pair.giving.asked_for([(ORIGIN, 0)], pair.ctx)
    pair.giving.declined(wire.SnapshotEnd("s1", Reason.SNAPSHOT_USELESS.value), pair.ctx)
    pair.ctx.run(DECLINED_SECONDS)
    pair.look()
    assert pair.shelf.files == ({"s2"} if asks else {"s1"})


def test_a_peer_that_asks_for_what_only_a_state_tells_is_offered_one_and_sent_entries() -> None:
    pair = Pair()
    has = {ORIGIN: (1, b"h")}
    pair.ctx.run(AGAIN_SECONDS)

    def ordered() -> bool:
        assert not pair.giving.look(has, {}, pair.ctx)
        told, pair.ctx.told = pair.ctx.told, []
        return any(isinstance(message, FreezeSnapshot) for _, message in told)

    assert not ordered()
    pair.giving.asked_for([(ORIGIN, 2)], pair.ctx)
    assert not ordered()
    for wanted in (1, 0):
        pair.giving.asked_for([(ORIGIN, wanted)], pair.ctx)
        assert ordered()
        pair.ctx.run(VAIN_SECONDS)
        assert not ordered()
    pair.log.lacks = {}
    pair.giving.asked_for([(ORIGIN, 1)], pair.ctx)
    assert not ordered()
    cloud = Pair(cloud=True)
    cloud.ctx.run(AGAIN_SECONDS)
    cloud.giving.asked_for([(ORIGIN, 1)], cloud.ctx)
    assert not cloud.giving.look(has, {}, cloud.ctx)
    assert cloud.ctx.told == []
