"""A stage hands on whole groups of proven entries, and nothing after the first bad one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entgldb.actors.session import staging
from entgldb.actors.session import writers as writers_of
from entgldb.actors.session.staging import HandedOn, Stage
from entgldb.actors.session.writers import Writers
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import codec, wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import (
    GROUP_BYTES_MAX,
    GROUP_ENTRIES_MAX,
    LOCAL_FRAME_BYTES_MAX,
    STAGED_BYTES_MAX,
)
from entgldb.messages.local.actors import Apply, SessionEnded
from entgldb.messages.model import Entry
from entgldb.messages.schema import Channel
from entgldb.storage.rules import header as headers
from tests.support.fake_context import FakeContext
from tests.support.keys import Writer, ca, ca_key_of, cluster, ends_of_groups
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.session.test_session import Bench

WRITER, OTHER = Writer("lan-1"), Writer("lan-2")
ORIGIN = WRITER.origin


def entries(count: int, group_size: int = 1, writer: Writer = WRITER) -> tuple[Entry, ...]:
    """A chain of puts in groups of ``group_size``."""
    made = []
    previous = b""
    for number in range(count):
        body = b'{"n":%d}' % number
        raw = headers.encode(
            headers.Header(
                writer.origin,
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
    return tuple(ends_of_groups(made, writer))


def without_signatures(some: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Of several signatures in one batch only the last is checked and kept."""
    return tuple(Entry(one.header, one.body) for one in some)


def successor(word: str, following: str) -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """As a peer tells of it: the CA of a cluster is followed by another one."""
    key = ca_key_of(following)
    return cluster(word), ca_key_of(word), [(key, ca(word).vouch(key))]


class Rig:
    """One stage, and what it counts."""

    def __init__(self) -> None:
        self.stage, self.counted, self.ctx = Stage(), list[Reason](), FakeContext()
        self.log = ListLog()
        self.writers = Writers("n", CaWitness.of(ca_key_of("tests")), self.log)

    def take(self, some: tuple[Entry, ...], recorded: tuple[int, ...] = ()) -> HandedOn:
        authors = (WRITER.author, OTHER.author)
        return self.stage.take(some, recorded, authors, self.writers, self.ctx, self.counted.append)


def test_single_entries_pass_at_once() -> None:
    some = entries(3)
    ready = Rig().take(some)
    assert ready.entries == without_signatures(some[:2]) + some[2:]
    assert ready.fault == ""


def test_a_group_over_two_batches_is_staged_until_it_is_whole() -> None:
    some = entries(6, group_size=3)
    rig = Rig()
    assert rig.take(some[:4]).entries == some[:3]
    assert rig.take(some[4:]).entries == some[3:]


def test_a_sender_may_begin_again_with_what_waits() -> None:
    some, rig = entries(6, group_size=3), Rig()
    assert rig.take(some[:2]).entries == ()
    assert rig.take(some).entries == without_signatures(some[:3]) + some[3:]


@pytest.mark.parametrize("held", [False, True])
def test_a_sender_may_skip_what_another_has_brought_meanwhile(*, held: bool) -> None:
    some, rig = entries(6, group_size=3), Rig()
    assert rig.take(some[:2]).entries == ()
    if held:
        rig.log.held_back[ORIGIN] = 3
    else:
        for _ in range(3):
            rig.log.add(ORIGIN)
    ready = rig.take(some[3:])
    assert (ready.entries, ready.fault, rig.counted) == (some[3:], "", [])


def test_a_sender_may_begin_again_behind_what_another_has_brought_meanwhile() -> None:
    brought, some, rig = entries(3, group_size=3), entries(3, group_size=3, writer=OTHER), Rig()
    assert rig.take((*brought[:2], *some[:2])).entries == ()
    for _ in range(3):
        rig.log.add(ORIGIN)
    ready = rig.take(some)
    assert (ready.entries, ready.fault, rig.counted) == (some, "", [])


def test_a_sender_may_begin_again_before_what_another_has_brought_meanwhile() -> None:
    """It has not heard of that yet."""
    rig, whole = Rig(), entries(6, 6)
    rig.take(whole[:3])
    rig.take(whole[3:4])
    for _ in range(3):
        rig.log.add(ORIGIN)
    assert rig.take(whole[1:]).entries == without_signatures(whole[1:5]) + whole[5:]
    assert rig.counted == []


def test_a_sender_may_begin_again_without_what_it_has_taken_out() -> None:
    """A log of which it has the beginning of a group was given its end."""
    taken_out, some, rig = entries(2, group_size=3), entries(3, writer=OTHER), Rig()
    assert rig.take((*taken_out, *some[:2])).entries == ()
    ready = rig.take(some)
    assert (ready.entries, ready.fault, rig.counted) == (
        without_signatures(some[:2]) + some[2:],
        "",
        [],
    )


def test_a_sender_that_skips_what_nobody_has_brought_is_refused() -> None:
    some, rig = entries(6, group_size=3), Rig()
    assert rig.take(some[:2]).entries == ()
    rig.log.add(ORIGIN)
    ready = rig.take(some[3:])
    assert (ready.entries, ready.fault) == ((), "bad-entry")


def test_a_cause_that_waits_behind_what_was_forged_is_not_forgotten() -> None:
    forged = replace(entries(1, writer=OTHER)[0], signature=None)
    cause, effect = entries(1), entries(4, group_size=4, writer=OTHER)
    rig = Rig()
    assert [rig.take(part).entries for part in ((forged,), cause)] == [(), ()]
    ready = rig.take(effect)
    assert (ready.entries, ready.fault) == ((), "bad-entry")


def test_a_body_its_origin_did_not_write_stops_the_batch_there() -> None:
    some = entries(3)
    forged = (some[0], replace(some[1], body=b'{"n":666}'), some[2])
    rig = Rig()
    ready = rig.take(forged)
    assert ready.entries == some[:1]
    assert (ready.fault, rig.counted) == ("bad-entry", [Reason.BAD_ENTRY])


def test_garbage_for_a_header_is_a_fault_not_a_crash() -> None:
    ready = Rig().take((Entry(b"\xc1", None),))
    assert (ready.entries, ready.fault) == ((), "bad-entry")


def test_a_body_that_is_no_document_is_handed_on_for_it_is_what_its_origin_wrote() -> None:
    body = b"not json"
    raw = headers.encode(
        headers.Header(ORIGIN, 1, 1, "c", "k", headers.PUT, None, 0, 1, headers.digest(body), b"")
    )
    entry = WRITER.signed(Entry(raw, body))
    ready = Rig().take((entry,))
    assert (ready.entries, ready.fault) == ((entry,), "")


def test_a_header_without_body_passes_as_filtered() -> None:
    bare = replace(entries(1)[0], body=None)
    assert Rig().take((bare,)).entries == (bare,)


def test_recorded_indexes_follow_their_entries_through_the_stage() -> None:
    some, rig = entries(4, group_size=2), Rig()
    assert rig.take(some[:3], recorded=(2,)).recorded == ()
    assert rig.take(some[3:], recorded=(0,)).recorded == (0, 1)


def test_a_group_that_never_ends_is_refused_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "STAGE_ENTRIES_MAX", 4)
    beginning, rig = entries(5, group_size=9), Rig()
    assert [rig.take(part).fault for part in (beginning[:4], beginning[4:])] == ["", "bad-entry"]
    assert len(rig.stage) == 0


def test_a_group_of_too_many_bytes_is_refused_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    some = entries(8, group_size=9)
    # headers count like bodies: both are staged
    first = sum(len(one.header) + len(one.body or b"") for one in some[:7])
    monkeypatch.setattr(staging, "STAGE_BYTES_MAX", first)
    rig = Rig()
    ready = rig.take(some)
    assert (ready.entries, ready.fault, len(rig.stage)) == ((), "bad-entry", 0)


def test_a_stage_has_room_for_the_largest_group_and_little_more() -> None:
    assert STAGED_BYTES_MAX == 2 * GROUP_BYTES_MAX < staging.STAGE_BYTES_MAX < LOCAL_FRAME_BYTES_MAX


def test_a_group_as_large_as_one_may_be_fits_into_one_frame_between_actors() -> None:
    made = entries(GROUP_ENTRIES_MAX, GROUP_ENTRIES_MAX)
    body = b"x" * (GROUP_BYTES_MAX // GROUP_ENTRIES_MAX)
    staged = tuple(Entry(one.header + bytes(1500), body) for one in made)
    payload = codec.encode(Apply("sync", "s", 0, 0, staged, cloud=False))
    assert len(payload) <= LOCAL_FRAME_BYTES_MAX
    decoded = codec.decode(payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message
    assert isinstance(decoded, Apply)
    assert decoded.entries == staged


def test_a_new_round_drops_what_was_staged() -> None:
    bench, some = Bench().open(), entries(3, group_size=3)
    bench.session.receive(wire.Entries(0, 0, some[:2], (), (WRITER.author,)), bench.ctx)
    bench.session.receive(wire.Entries(0, 7, ()), bench.ctx)
    bench.session.receive(wire.Entries(1, 0, some, (), (WRITER.author,)), bench.ctx)
    first, second = bench.ctx.take(Apply, "store")
    assert (first.round, first.entries) == (0, ())
    assert (second.round, second.entries) == (1, some)


def test_oplog_and_store_hear_that_a_session_is_over() -> None:
    bench = Bench().open()
    bench.ctx.told.clear()
    bench.session.end(bench.ctx)
    assert bench.ctx.told == [(keeper, SessionEnded("sync:1")) for keeper in ("oplog", "store")]


def test_what_waits_in_one_session_is_proven_though_another_was_first_to_look_who_is_believed_now() -> None:
    rig, other = Rig(), Stage()
    first, second = entries(2, group_size=2)
    assert rig.take((first,)).entries == ()
    rig.writers._witness.hear(*successor("tests", "next"))
    assert other.take((), (), (), rig.writers, rig.ctx, rig.counted.append).fault == ""
    assert rig.take((second,)) == HandedOn((first, second), (), (WRITER.author,))
    assert rig.counted == []


def test_a_writer_is_believed_no_longer_than_the_ca_that_has_attested_it() -> None:
    believed = {ca_key_of("tests"): cluster("tests")}
    writers = Writers("n", CaWitness(lambda: believed), ListLog())
    writers.look()
    assert writers.author(ORIGIN, WRITER.author) == WRITER.author
    believed = {ca_key_of("next"): cluster("tests")}
    writers.look()
    assert writers.author(ORIGIN, WRITER.author) is None


def test_of_what_one_message_supplies_a_bounded_number_of_signatures_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers_of, "SUPPLIED_CHECKED_MAX", 2)
    found = Rig().writers.supplied(entries(3), (WRITER.author,))
    assert [one.signature is not None for one in found] == [True, True, False]
