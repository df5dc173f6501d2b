"""A peer that lacks what the log has no more: nothing is sent over the gap, nothing is taken from it."""

from __future__ import annotations

from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Apply
from entgldb.messages.model import Vector
from entgldb.messages.schema import Message
from tests.unit.actors.session.list_log import ME, YOU
from tests.unit.actors.session.test_session import Bench


def pruned_bench(upto: int = 2) -> Bench:
    bench = Bench()
    for _ in range(4):
        bench.log.add(ME)
    bench.log.prune(ME, upto)
    return bench


def hear(bench: Bench, message: Message) -> None:
    bench.session.receive(message, bench.ctx)


def at(seq: int) -> Vector:
    return {ME: (seq, b"h")} if seq else {}


def sent(bench: Bench) -> list[Message]:
    found = [message for message in bench.sent if isinstance(message, wire.Entries)]
    bench.sent.clear()
    return list(found)


def test_a_peer_behind_the_floor_is_sent_nothing_and_is_counted() -> None:
    bench = pruned_bench()
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors(at(1), {}))
    bench.commit(ME)
    assert sent(bench) == []
    assert bench.session.outbox.cut_off
    assert bench.counts[Reason.BEHIND_SNAPSHOT] > 0


def test_a_peer_at_the_floor_is_served_from_the_log() -> None:
    bench = pruned_bench()
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors(at(2), {}))
    (batch,) = sent(bench)
    assert isinstance(batch, wire.Entries)
    assert len(batch.entries) == 2
    assert bench.counts[Reason.BEHIND_SNAPSHOT] == 0


def test_what_a_peer_behind_the_floor_sends_is_not_taken() -> None:
    bench = pruned_bench()
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors(at(0), {}))
    hear(bench, wire.Entries(0, 0, ()))
    assert [m for _, m in bench.ctx.told if isinstance(m, Apply)] == []
    bench.ctx.run(30.0)
    hear(bench, wire.Heartbeat(0, 0, 1))
    assert [message for message in bench.sent if isinstance(message, wire.GapRequest)] == []


def test_once_it_has_caught_up_otherwise_the_link_is_like_any_other() -> None:
    bench = pruned_bench()
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors(at(0), {}))
    hear(bench, wire.Heartbeat(0, 0, 0, vector=at(3), held={}, told=2))
    (batch,) = sent(bench)
    assert isinstance(batch, wire.Entries)
    assert len(batch.entries) == 1
    hear(bench, wire.Entries(0, 0, ()))
    assert [m for _, m in bench.ctx.told if isinstance(m, Apply)] != []


def test_rows_that_are_pruned_while_a_batch_is_made_are_not_passed_over() -> None:
    bench = Bench()
    for origin in (ME, YOU, ME):
        bench.log.add(origin)
    rows = bench.log.rows

    def pruning(from_lsn: int, rows_max: int) -> list[object]:
        bench.log.prune(ME, 1)
        return list(rows(from_lsn, rows_max))

    bench.log.rows = pruning  # type: ignore[method-assign,assignment]  # the store prunes at that very moment
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors({}, {}))
    assert sent(bench) == []
    assert bench.counts[Reason.BEHIND_SNAPSHOT] > 0


def test_a_batch_that_was_not_sent_is_followed_by_none_before_the_peer_has_said_what_it_has() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.session.start(bench.ctx)
    hear(bench, wire.Vectors({ME: (1, b"h")}, {}))
    # a snapshot has raised a floor, and with it came what the peer has not got
    bench.log.pruned[YOU] = 5
    bench.commit(ME)
    assert sent(bench) == []
    # the peer learns of it otherwise: the batch that was not sent is missing all the same
    hear(bench, wire.VectorChange({YOU: (5, b"h")}))
    bench.commit(ME)
    assert sent(bench) == []
    hear(bench, wire.Heartbeat(0, 0, 0, vector={ME: (1, b"h"), YOU: (5, b"h")}, held={}, told=2))
    (batch,) = sent(bench)
    assert isinstance(batch, wire.Entries)
    assert len(batch.entries) == 2
