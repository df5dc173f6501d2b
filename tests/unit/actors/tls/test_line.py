"""The rate of a line decides how much is handed to it: against a writer that is a number."""

from __future__ import annotations

import pytest

from entgldb.actors.line import (
    AHEAD_SECONDS,
    BATCH_BYTES_MIN,
    PIECE_SECONDS,
    Flow,
    Line,
    Parts,
)
from entgldb.messages import codec, wire
from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import BATCH_BYTES_MAX, FRAME_BYTES_MAX, LINK_QUEUE_BYTES_MAX, PEER_RATE_MIN
from entgldb.messages.model import Entry
from entgldb.messages.schema import Channel, Message

BEAT = wire.Heartbeat(0, 0, 0)
STEP = 0.02


class Wire:
    """A writer from which ``rate`` bytes a second are taken."""

    def __init__(self, rate: float, limit: int = 0) -> None:
        self.rate = rate
        self.now = 0.0
        self.carried = self.waiting = 0.0
        self.sent: list[tuple[float, Message, float]] = []
        """When, what, and how many bytes waited before it."""
        self.line = Line(self._send, lambda: Flow(0, int(self.carried), int(self.waiting)), limit)

    def answered(self, seconds: float) -> None:
        """Time passes on a fast line; the peer's credit is one batch, acknowledged at the next look."""
        for _ in range(round(seconds / STEP)):
            sent, size = self.now, self.line.batch
            self.line.send(batch(size))
            self.carried, self.waiting = self.carried + self.waiting, 0.0
            self.now += STEP
            self.line.look(self.now)
            self.line.proved(size, sent, self.now)

    def run(self, seconds: float, *, wanted: bool = True) -> None:
        """Time passes; ``wanted``: there is always one more batch to send."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            gone = min(self.waiting, self.rate * STEP)
            self.carried, self.waiting = self.carried + gone, self.waiting - gone
            self.line.look(self.now)
            while wanted and self.line.has_room():
                self.line.send(batch(self.line.batch))

    def _send(self, message: Message) -> bool:
        self.sent.append((self.now, message, self.waiting))
        self.waiting += len(codec.encode(message))
        return True


def batch(size: int) -> wire.Entries:
    return wire.Entries(0, 0, (Entry(b"h", b"x" * size),))


@pytest.mark.parametrize("rate", [15_000, 50_000, 1_000_000])
def test_a_line_is_kept_full_with_frames_of_less_than_a_second(rate: int) -> None:
    wire_ = Wire(rate)
    wire_.run(10)
    begun = wire_.carried
    wire_.run(20)
    assert wire_.carried - begun > 0.95 * 20 * rate
    late = [before for at, _, before in wire_.sent if at > 10]
    assert max(late) <= 2 * AHEAD_SECONDS * rate, "a heartbeat sent now would wait as long"
    assert wire_.line.batch <= max(BATCH_BYTES_MIN, rate)


@pytest.mark.parametrize("limit", [PEER_RATE_MIN, 20_000, 200_000])
def test_a_limited_line_takes_so_much_a_second_and_no_more_and_heartbeats_at_once(limit: int) -> None:
    wire_ = Wire(100_000_000, limit)
    wire_.run(30)
    for _ in range(30):
        wire_.run(1)
        begun = len(wire_.sent)
        wire_.line.send(BEAT)
        assert wire_.sent[begun][1] is BEAT
    handed = wire_.carried + wire_.waiting
    assert 0.9 * 60 * limit < handed < 60 * limit + 2 * BATCH_BYTES_MAX
    bulk = [len(codec.encode(message)) for _, message, _ in wire_.sent]
    assert max(bulk) < max(limit, 3 * BATCH_BYTES_MIN)


def test_a_limited_line_that_was_quiet_saves_one_second_up_and_a_slow_one_is_no_faster_for_it() -> None:
    wire_ = Wire(100_000_000, 50_000)
    wire_.run(100, wanted=False)
    begun = wire_.carried
    wire_.run(1)
    assert wire_.carried - begun < 2.5 * 50_000
    slow = Wire(15_000, 50_000)
    slow.run(30)
    assert slow.waiting < 2 * AHEAD_SECONDS * 15_000 + BATCH_BYTES_MIN


def test_a_fast_line_has_full_batches_after_a_few_looks() -> None:
    wire_ = Wire(100_000_000)
    wire_.run(1.0)
    assert wire_.line.batch == BATCH_BYTES_MAX


def test_a_line_that_becomes_slow_gets_smaller_frames_and_larger_ones_again() -> None:
    wire_ = Wire(1_000_000)
    wire_.run(10)
    wire_.rate = 15_000
    wire_.run(120)
    assert wire_.line.piece < 15_000
    wire_.rate = 1_000_000
    wire_.run(20)
    assert wire_.line.piece > 200_000


def test_the_first_look_measures_nothing_however_long_the_machine_runs() -> None:
    """What waits at that moment has not waited for a second."""
    wire_ = Wire(100_000_000)
    wire_.now = 100_000.0
    wire_.line.send(BEAT)
    wire_.line.look(wire_.now)
    first = wire_.line.batch
    assert first > BATCH_BYTES_MIN
    wire_.run(1.0)
    assert wire_.line.batch == BATCH_BYTES_MAX


def test_a_line_that_was_slow_is_fast_by_what_is_acknowledged_though_it_never_has_more_to_carry() -> None:
    wire_ = Wire(15_000)
    wire_.run(30)
    assert wire_.line.batch < 15_000
    wire_.answered(4.0)
    assert wire_.line.batch == BATCH_BYTES_MAX


def test_acknowledgements_that_come_in_heaps_make_a_slow_line_no_faster() -> None:
    """The peer commits every three seconds what has come by then: hundreds of kilobytes in an instant."""
    wire_ = Wire(15_000)
    acked, handed = 0, 0.0
    for _ in range(20):
        wire_.run(3.0)
        while acked < len(wire_.sent):
            sent, message, _ = wire_.sent[acked]
            size = len(codec.encode(message))
            if handed + size > wire_.carried:
                break
            handed, acked = handed + size, acked + 1
            wire_.line.proved(size, sent, wire_.now)
        assert wire_.line.piece < 15_000
    assert acked > 50


def test_a_heartbeat_goes_between_two_parts_of_a_large_document() -> None:
    wire_ = Wire(15_000)
    wire_.run(10)
    wire_.line.send(batch(1_000_000))
    begun = len(wire_.sent)
    for _ in range(20):
        wire_.run(1.0, wanted=False)
        wire_.line.send(BEAT)
    kinds = [type(message) for _, message, _ in wire_.sent[begun:]]
    assert kinds.count(wire.Heartbeat) == 20
    assert kinds.index(wire.Heartbeat) < len(kinds) - 1
    waits = [before / 15_000 for _, message, before in wire_.sent[begun:] if message is BEAT]
    assert max(waits) < 2 * (PIECE_SECONDS + AHEAD_SECONDS)


def test_parts_make_the_frame_again_and_nothing_else_does() -> None:
    wire_ = Wire(15_000)
    wire_.run(5, wanted=False)
    whole = batch(100_000)
    wire_.line.send(whole)
    wire_.run(60, wanted=False)
    parts = [message for _, message, _ in wire_.sent if isinstance(message, wire.Part)]
    assert len(parts) > 5
    joined = Parts()
    found = [payload for part in parts if (payload := joined.join(part)) is not None]
    assert [codec.decode(payload, Channel.PEER).message for payload in found] == [whole]
    assert [Parts().join(part) for part in parts[1:]] == [None] * (len(parts) - 1)
    del parts[3]
    joined = Parts()
    assert [joined.join(part) for part in parts] == [None] * len(parts)


def test_parts_beyond_the_largest_frame_are_refused() -> None:
    joined, piece = Parts(), b"x" * (FRAME_BYTES_MAX // 2)
    assert joined.join(wire.Part(1, 0, False, piece)) is None
    assert joined.join(wire.Part(1, len(piece), False, piece)) is None
    with pytest.raises(ProtocolError):
        joined.join(wire.Part(1, 2 * len(piece), False, b"x"))


def test_what_waits_beyond_the_bound_is_the_links_to_refuse() -> None:
    wire_ = Wire(0)
    wire_.line.send(batch(BATCH_BYTES_MAX))
    for _ in range(2 * LINK_QUEUE_BYTES_MAX // BATCH_BYTES_MAX):
        wire_.line.send(batch(BATCH_BYTES_MAX))
    assert wire_.waiting > LINK_QUEUE_BYTES_MAX // 2
    assert sum(len(one.entries[0].body or b"") for one in wire_.line.queued(wire.Entries)) <= (
        LINK_QUEUE_BYTES_MAX + BATCH_BYTES_MAX
    )
