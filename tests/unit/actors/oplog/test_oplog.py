"""The oplog hands on whole groups of verified entries, and nothing after the first bad one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entgldb.actors.oplog import behaviour as oplog
from entgldb.actors.oplog import staging
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import codec
from entgldb.messages.client import Report, Status
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX, LOCAL_FRAME_BYTES_MAX
from entgldb.messages.local.actors import Apply, EntriesReceived, ReleaseHeld, SessionEnded
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.local.verification import VerifyPeer, VerifySay
from entgldb.messages.model import Entry
from entgldb.messages.schema import Channel
from entgldb.messages.settings import OplogSettings
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.rules import header as headers
from tests.support.fake_context import FakeAsker, FakeContext
from tests.support.keys import Writer, ca_key_of, ends_of_groups
from tests.unit.actors.oplog.verify_rig import Side
from tests.unit.actors.session.test_session import ListLog

WRITER = Writer("lan-1")
ORIGIN = WRITER.origin


def entries(count: int, group_size: int = 1) -> tuple[Entry, ...]:
    """A chain of puts in groups of ``group_size``."""
    made = []
    previous = b""
    for number in range(count):
        body = b'{"n":%d}' % number
        raw = headers.encode(
            headers.Header(
                ORIGIN,
                number + 1,
                number + 1,
                "users",
                f"u{number}",
                headers.PUT,
                None,
                number % group_size,
                group_size,
                headers.digest(body),
                previous,
            )
        )
        previous = headers.digest(raw)
        made.append(Entry(raw, body))
    return tuple(ends_of_groups(made, WRITER))


def without_signatures(some: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Of several signatures in one batch only the last is checked and kept."""
    return tuple(Entry(one.header, one.body) for one in some)


def received(some: tuple[Entry, ...], batch: int = 0, round_: int = 0) -> EntriesReceived:
    return EntriesReceived("sync", "s", round_, batch, some, cloud=False, authors=(WRITER.author,))


def applies(*messages: object) -> list[Apply]:
    keeper, ctx = OplogKeeper(OplogSettings("n", "/nowhere"), CaWitness.of(ca_key_of("tests"))), FakeContext()
    for message in messages:
        keeper.handle(message, ctx)  # type: ignore[arg-type]  # the tests pass messages only
    return [message for _, message in ctx.told if isinstance(message, Apply)]


def test_single_entries_pass_at_once() -> None:
    some = entries(3)
    (apply,) = applies(received(some))
    assert apply.entries == without_signatures(some[:2]) + some[2:]
    assert apply.fault == ""


def test_a_group_over_two_batches_is_staged_until_it_is_whole() -> None:
    some = entries(6, group_size=3)
    first, second = applies(received(some[:4]), received(some[4:], batch=1))
    assert first.entries == some[:3]
    assert second.entries == some[3:]


def test_a_new_round_drops_what_was_staged() -> None:
    some = entries(3, group_size=3)
    first, second = applies(received(some[:2]), received(some, round_=1))
    assert first.entries == ()
    assert second.entries == some


def test_the_end_of_a_session_drops_what_was_staged() -> None:
    some = entries(2, group_size=2)
    _, second = applies(received(some[:1]), SessionEnded("s"), received(some))
    assert second.entries == some


def test_the_sessions_of_a_dead_actor_are_dropped_and_no_others() -> None:
    keeper, ctx = OplogKeeper(OplogSettings("n", "/nowhere"), CaWitness.of(ca_key_of("tests"))), FakeContext()
    for session in ("sync:1", "sync:2", "gateway:1"):
        keeper.handle(replace(received(entries(1, group_size=2)), session=session), ctx)
    keeper.handle(SessionEnded("sync"), ctx)
    ctx.asker = asker = FakeAsker()
    keeper.handle(Status(), ctx)
    (report,) = asker.answers
    assert isinstance(report, Report)
    assert report.body["staged"] == 1


def test_a_body_its_origin_did_not_write_stops_the_batch_there() -> None:
    some = entries(3)
    forged = (some[0], replace(some[1], body=b'{"n":666}'), some[2])
    (apply,) = applies(received(forged))
    assert apply.entries == some[:1]
    assert apply.fault == "bad-entry"


def test_garbage_for_a_header_is_a_fault_not_a_crash() -> None:
    (apply,) = applies(received((Entry(b"\xc1", None),)))
    assert (apply.entries, apply.fault) == ((), "bad-entry")


def test_a_body_that_is_no_document_is_handed_on_for_it_is_what_its_origin_wrote() -> None:
    body = b"not json"
    raw = headers.encode(
        headers.Header(ORIGIN, 1, 1, "c", "k", headers.PUT, None, 0, 1, headers.digest(body), b"")
    )
    entry = WRITER.signed(Entry(raw, body))
    (apply,) = applies(received((entry,)))
    assert (apply.entries, apply.fault) == ((entry,), "")


def test_a_header_without_body_passes_as_filtered() -> None:
    bare = replace(entries(1)[0], body=None)
    (apply,) = applies(received((bare,)))
    assert apply.entries == (bare,)


def test_recorded_indexes_follow_their_entries_through_the_stage() -> None:
    some = entries(4, group_size=2)
    first = EntriesReceived("sync", "s", 0, 0, some[:3], cloud=False, recorded=(2,), authors=(WRITER.author,))
    second = EntriesReceived("sync", "s", 0, 1, some[3:], cloud=False, recorded=(0,))
    one, two = applies(first, second)
    assert one.recorded == ()
    assert two.recorded == (0, 1)


def test_a_group_that_never_ends_is_refused_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "STAGE_ENTRIES_MAX", 4)
    beginning = entries(5, group_size=9)
    done = applies(received(beginning[:4]), received(beginning[4:], batch=1))
    assert [apply.fault for apply in done] == ["", "bad-entry"]


def test_a_group_of_too_many_bytes_is_refused_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    some = entries(8, group_size=9)
    # headers count like bodies: both are staged
    first = sum(len(one.header) + len(one.body or b"") for one in some[:7])
    monkeypatch.setattr(staging, "STAGE_BYTES_MAX", first)
    keeper, ctx = OplogKeeper(OplogSettings("n", "/nowhere"), CaWitness.of(ca_key_of("tests"))), FakeContext()
    keeper.handle(received(some), ctx)
    (apply,) = [message for _, message in ctx.told if isinstance(message, Apply)]
    assert (apply.entries, apply.fault) == ((), "bad-entry")
    ctx.behaviour = keeper
    report = ctx.ask(Status())
    assert isinstance(report, Report)
    assert report.body["staged"] == 0


def test_a_group_as_large_as_one_may_be_fits_into_one_frame_between_actors() -> None:
    made = entries(GROUP_ENTRIES_MAX, GROUP_ENTRIES_MAX)
    body = b"x" * (GROUP_BYTES_MAX // GROUP_ENTRIES_MAX)
    staged = tuple(Entry(one.header + bytes(1500), body) for one in made)
    payload = codec.encode(Apply("sync", "s", 0, 0, staged, cloud=False))
    assert len(payload) <= LOCAL_FRAME_BYTES_MAX
    decoded = codec.decode(payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message
    assert isinstance(decoded, Apply)
    assert decoded.entries == staged


def test_held_entries_are_looked_at_every_second_and_seldom_while_there_are_none() -> None:
    log, ctx = HoldingLog(), FakeContext()
    keeper = ctx.behaviour = OplogKeeper(
        OplogSettings("n", "/nowhere"), CaWitness.of(ca_key_of("tests")), log
    )
    keeper.start(ctx)
    ctx.run(21.5)
    assert ctx.told.count(("store", ReleaseHeld())) == 5
    log.some = {ORIGIN: 1}
    ctx.run(5)
    ctx.told.clear()
    ctx.run(5)
    assert ctx.told.count(("store", ReleaseHeld())) == 5


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
    keeper = OplogKeeper(
        settings, CaWitness.of(ca_key_of("tests")), side.store, Fingerprints(side.store.connection)
    )
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
