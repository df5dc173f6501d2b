"""A session reads and asks for a bounded number of rows in one go, however the log lies."""

from __future__ import annotations

import pytest

from entgldb.actors.line import RATE_MAX, Flow
from entgldb.actors.session import outbox, session
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import (
    BATCH_BYTES_MAX,
    LINK_QUEUE_BYTES_MAX,
    ORIGINS_MAX,
    PAGE_ROWS_MAX,
    WINDOW_BATCHES_MAX,
    WINDOW_BYTES_MAX,
)
from entgldb.messages.local.actors import Applied
from entgldb.messages.model import Entry
from entgldb.storage.rules.results import LogRow
from tests.unit.actors.session.list_log import ME, YOU
from tests.unit.actors.session.test_session import LARGE, Bench


class Read:
    """Counts the pages read of a log, and their rows."""

    def __init__(self, bench: Bench) -> None:
        self.pages = self.count = 0
        self._rows = bench.log.rows
        bench.log.rows = self.rows  # type: ignore[method-assign]  # the same, counted

    def rows(self, from_lsn: int, rows_max: int) -> list[LogRow]:
        self.pages += 1
        found = self._rows(from_lsn, rows_max)
        self.count += len(found)
        return found


def logged(*origins: str) -> Bench:
    """A session over a log whose rows are of these origins."""
    bench = Bench()
    seqs: dict[str, int] = {}
    for lsn, origin in enumerate(origins, 1):
        seq = seqs[origin] = seqs.get(origin, 0) + 1
        bench.log.all.append(LogRow(lsn, origin, seq, b"h", "c", b"%d" % lsn, b"{}", True))
    return bench


def test_rows_that_the_peer_has_are_passed_without_reading_them() -> None:
    many = 40 * PAGE_ROWS_MAX
    bench = logged(ME, *[YOU] * many, ME, *[YOU] * many, ME)
    read = Read(bench)
    bench.open({YOU: (2 * many, b"h")})
    assert bench.headers() == [b"1", b"%d" % (many + 2), b"%d" % (2 * many + 3)]
    assert read.pages < 10


def test_rows_that_a_batch_has_no_room_for_are_not_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ENTRIES_PER_BATCH_MAX", 4)
    bench = logged(*[ME] * 100)
    read = Read(bench)
    bench.open({})
    assert len(bench.headers()) == 100
    assert read.count <= 100 + 100 // 4


def test_a_batch_is_sent_after_so_many_pages_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAGES_PER_BATCH_MAX", 2)
    bench = logged(*([ME] + [YOU] * (PAGE_ROWS_MAX - 1)) * 5)
    bench.open({YOU: (5 * PAGE_ROWS_MAX, b"h")})
    batches = [message.entries for message in bench.take(wire.Entries)]  # type: ignore[attr-defined]  # Entries only
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [int(e.header) for batch in batches for e in batch] == [1 + PAGE_ROWS_MAX * n for n in range(5)]


def test_what_was_lost_behind_passed_rows_goes_out_again() -> None:
    many = 2 * PAGE_ROWS_MAX
    bench = logged(*[YOU] * many, ME)
    bench.open({YOU: (many, b"h")})
    assert bench.headers() == [b"%d" % (many + 1)]
    bench.session.receive(wire.GapRequest(1, {YOU: (many, b"h")}, {}), bench.ctx)
    assert bench.headers() == [b"%d" % (many + 1)]


def test_what_nobody_supplies_does_not_hide_what_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WANT_MAX", 2)
    bench = Bench().open()
    for _ in range(3):
        bench.log.add(ME, collection="_system_x", applied=False)
    asked = []
    for _ in range(3):
        bench.session.beat_now(bench.ctx, None)
        asked += [message.ids for message in bench.take(wire.Want)]  # type: ignore[attr-defined]  # Want only
    assert asked == [((ME, 1), (ME, 2)), ((ME, 3),), ((ME, 1), (ME, 2))]


def test_a_peer_that_acknowledges_nothing_has_a_window_queued_and_is_then_served_from_the_log() -> None:
    bench = Bench().open()
    body = b"x" * (BATCH_BYTES_MAX * 2 // 3)
    rows = [bench.log.add(ME, body) for _ in range(12 * LARGE)]
    for row in rows:
        bench.session.committed(row.lsn, row.lsn, row.lsn, bench.ctx)
    queued = bench.take(wire.Entries)
    assert LARGE < len(queued) < 2 * LARGE
    assert bench.counts["window-full"] > 0
    assert bench.session.behind_out == len(rows)
    # far fewer bytes than those at which a link is closed as a slow reader
    assert 2 * WINDOW_BYTES_MAX <= LINK_QUEUE_BYTES_MAX
    got: list[bytes] = []
    acknowledged = 0
    while queued:
        for message in queued:
            assert isinstance(message, wire.Entries)
            got += [entry.header for entry in message.entries]
            bench.session.receive(wire.Ack(0, acknowledged), bench.ctx)
            acknowledged += 1
        queued = bench.take(wire.Entries)
        assert len(queued) <= 2 * LARGE
    assert got == [row.header for row in rows]


def test_what_is_supplied_in_one_go_is_bounded_and_the_rest_is_asked_for_again() -> None:
    bench = Bench().open()
    for _ in range(3 * WINDOW_BATCHES_MAX):
        bench.log.add(ME, b"x" * BATCH_BYTES_MAX, collection="_system_x")
    bench.session.receive(wire.Want(tuple((ME, seq + 1) for seq in range(3 * WINDOW_BATCHES_MAX))), bench.ctx)
    assert len(bench.take(wire.Supply)) == WINDOW_BATCHES_MAX


def test_who_sends_on_without_an_acknowledgement_is_to_be_disconnected() -> None:
    bench = Bench().open()
    for number in range(2 * WINDOW_BATCHES_MAX):
        bench.session.receive(wire.Entries(0, number, ()), bench.ctx)
    assert bench.session.fault is None
    bench.session.receive(wire.Entries(0, 2 * WINDOW_BATCHES_MAX, ()), bench.ctx)
    assert bench.session.fault is not None
    assert bench.session.fault[0] is Reason.WINDOW_FULL
    bench.ctx.told.clear()
    bench.session.receive(wire.Entries(0, 2 * WINDOW_BATCHES_MAX + 1, ()), bench.ctx)
    assert bench.ctx.told == [], "nothing more is taken"


def test_bytes_beyond_the_window_are_noticed_too() -> None:
    bench = Bench().open()
    whole = (Entry(b"h", b"x" * WINDOW_BYTES_MAX),)
    for number in range(3):
        assert bench.session.fault is None
        bench.session.receive(wire.Entries(0, number, whole), bench.ctx)
    bench.session.receive(wire.Entries(0, 3, whole), bench.ctx)
    assert bench.session.fault is not None


def test_who_is_acknowledged_may_send_for_ever() -> None:
    bench = Bench().open()
    for number in range(10 * WINDOW_BATCHES_MAX):
        bench.session.receive(wire.Entries(0, number, ()), bench.ctx)
        bench.session.applied(Applied("sync:1", 0, number, {}), bench.ctx)
    assert bench.session.fault is None


def test_a_peer_cannot_have_more_origins_than_there_can_be() -> None:
    bench = Bench().open()
    for name in range(ORIGINS_MAX):
        bench.session.receive(wire.VectorChange({f"n{name}/{'0' * 32}": (1, b"h")}), bench.ctx)
    assert bench.session.fault is None
    bench.session.receive(wire.VectorChange({YOU: (1, b"h")}), bench.ctx)
    assert bench.session.fault is not None
    assert bench.session.fault[0] is Reason.MALFORMED


def test_the_rest_of_a_group_that_finds_no_room_on_the_line_is_waited_for() -> None:
    """The peer has acknowledged the beginning, and its vector lacks the group while it is not whole."""
    bench = Bench()
    for _ in range(2):
        bench.log.add(ME, body=b"x" * (BATCH_BYTES_MAX - 1))
    blocked = False

    def flow() -> Flow:
        taken = any(isinstance(message, wire.Entries) for message in bench.sent)
        return Flow(0, 0, int(RATE_MAX) if blocked or taken else 0)

    bench.session.line.flow = flow
    assert bench.open({}).headers() == [b"1"]
    blocked = True
    bench.session.receive(wire.Ack(0, 0), bench.ctx)
    bench.beat_from_peer({})
    blocked = False
    bench.wait(1.0)
    assert bench.headers() == [b"2"]


def test_what_the_peer_acknowledges_makes_the_batches_larger_after_a_line_was_full() -> None:
    """Small batches fill the credit window long before they fill a line that is fast again."""
    bench = Bench()
    for _ in range(16 * WINDOW_BATCHES_MAX):
        bench.log.add(ME, body=b"x" * 1000)
    full = True
    carried = 0

    def flow() -> Flow:
        return Flow(0, carried, int(RATE_MAX) if full else 0)

    bench.session.line.flow = flow
    bench.open({})
    for _ in range(20):
        bench.wait(1.0)
    full = False
    bench.wait(1.0)
    sizes, acked = [], 0
    while queued := bench.take(wire.Entries):
        bench.ctx.run(1.0)
        for message in queued:
            assert isinstance(message, wire.Entries)
            carried += sum(entry.size for entry in message.entries)
            sizes.append(len(message.entries))
            bench.session.receive(wire.Ack(0, acked), bench.ctx)
            acked += 1
    assert sum(sizes) == len(bench.log.all)
    assert sizes[0] < 5
    assert max(sizes) > 50
