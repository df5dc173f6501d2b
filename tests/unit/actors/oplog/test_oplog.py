"""The oplog has held entries looked at, and compares documents when it is time."""

from __future__ import annotations

import pytest

from entgldb.actors.oplog import behaviour as oplog
from entgldb.actors.oplog.behaviour import UPKEEP_INTERVAL, OplogKeeper
from entgldb.messages.local.actors import ReleaseHeld
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.local.verification import VerifyPeer, VerifySay
from entgldb.messages.settings import OplogSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Writer
from tests.unit.actors.oplog.keeper_rig import oplog as oplog_of
from tests.unit.actors.oplog.verify_rig import Side
from tests.unit.actors.session.list_log import ListLog

ORIGIN = Writer("lan-1").origin


def test_held_entries_are_released_every_second() -> None:
    log, ctx = HoldingLog(), FakeContext()
    keeper = ctx.behaviour = oplog_of(log=log)
    log.some = {ORIGIN: 1}
    keeper.start(ctx)
    ctx.run(5.5)
    assert ctx.told.count(("store", ReleaseHeld())) == 5


def test_where_nothing_is_held_the_store_is_left_alone_until_the_log_grows() -> None:
    log, ctx = HoldingLog(), FakeContext()
    keeper = ctx.behaviour = oplog_of(log=log)
    keeper.start(ctx)
    ctx.run(21.5)
    assert ctx.told.count(("store", ReleaseHeld())) == 1
    log.add(ORIGIN)
    ctx.run(5)
    assert ctx.told.count(("store", ReleaseHeld())) == 2
    ctx.run(4 * UPKEEP_INTERVAL)
    assert ctx.told.count(("store", ReleaseHeld())) == 6


class HoldingLog(ListLog):
    """With entries that are held, or without."""

    some: dict[str, int] = {}

    def held(self) -> dict[str, int]:
        return self.some

    def lived_ms(self) -> int:
        return 0


def verifying(settings: OplogSettings) -> tuple[OplogKeeper, FakeContext]:
    """A keeper with one peer to compare with."""
    side = Side("lan-1")
    keeper = oplog_of(settings, log=side.store)
    ctx = FakeContext()
    ctx.behaviour = keeper
    keeper.start(ctx)
    keeper.handle(VerifyPeer("sync", "sync:1", "lan-2", False, False), ctx)
    return keeper, ctx


def comparisons(ctx: FakeContext) -> int:
    return sum(isinstance(message, VerifySay) for _, message in ctx.told)


def test_a_node_compares_soon_after_its_start_whoever_is_to_begin_later() -> None:
    _, ctx = verifying(OplogSettings("lan-1", "/nowhere"))
    ctx.run(oplog.VERIFY_AFTER_START - 1)
    assert comparisons(ctx) == 0
    ctx.run(2.0)
    assert comparisons(ctx) == 1


def test_verification_that_is_off_does_not_begin_at_a_start_either() -> None:
    _, ctx = verifying(OplogSettings("lan-1", "/nowhere", verify_interval=0.0))
    ctx.run(2 * oplog.VERIFY_AFTER_START)
    assert comparisons(ctx) == 0


@pytest.mark.parametrize(("refused", "begun"), [("", 1), ("disk-full", 0)])
def test_a_merged_snapshot_is_compared_at_once(refused: str, begun: int) -> None:
    keeper, ctx = verifying(OplogSettings("lan-1", "/nowhere"))
    keeper.handle(SnapshotInstalled("sync:1", "", {}, refused), ctx)
    ctx.run(0.5)
    assert comparisons(ctx) == begun
