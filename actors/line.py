"""The queue of one link: large frames wait here in pieces, so that small ones overtake them. Pure.

A writer that is handed megabytes at once has nothing left to overtake: on 50 kB/s the next heartbeat comes
after a minute. So the writer gets, at a time, as many bytes as the line carries in about half a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from entgldb.messages import codec, wire
from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import BATCH_BYTES_MAX, FRAME_BYTES_MAX, LINK_QUEUE_BYTES_MAX
from entgldb.messages.schema import Message

RATE_FIRST: Final = 16 * 1024.0
"""Bytes a second that a new line is taken to carry."""
RATE_MIN: Final = 2 * 1024.0
RATE_MAX: Final = 8 * 1024 * 1024.0
"""Bytes a second that the fastest line is taken to carry; ``RATE_MIN`` is for the slowest."""
BURST_SECONDS: Final = 1.0
"""A limited line that was quiet may take the bytes of so many seconds at once."""
PIECE_SECONDS: Final = 0.5
"""Seconds for which one frame may keep the line to itself."""
AHEAD_SECONDS: Final = 0.25
"""Seconds of the frame before that may still wait when the next one is handed over."""
SAMPLE_SECONDS: Final = 1.0
"""A rate is measured over at least as long: kernels take bytes in lumps."""
BATCH_BYTES_MIN: Final = 4 * 1024
"""Headers and bodies of one ``Entries`` on the slowest line."""
MEMORY_SECONDS: Final = 3.0
"""How far back a measured rate looks."""
RATE_GROWTH_FIRST: Final = 2.0
RATE_GROWTH: Final = 1.1
"""Factor by which the rate of a line rises that took all; ``RATE_GROWTH_FIRST`` until it was first full."""
SLACK_SECONDS: Final = 2.0
"""A new line counts as faster after the bytes of so many seconds: the kernel takes the first."""
URGENT_BYTES_MAX: Final = 8 * 1024
"""A frame that is larger waits its turn, whatever it says."""
VECTOR_SHARE: Final = 0.1
"""The share of the line for vectors that repeat what was told before."""
ORIGIN_BYTES: Final = 96
AUTHOR_BYTES: Final = 192
"""One origin of a vector, about."""
BULK: Final = (
    wire.Entries,
    wire.Supply,
    wire.SnapshotChunk,
    wire.Ranges,
    wire.Items,
    wire.Copies,
    wire.CopyPiece,
)
"""Frames that keep their order among themselves and wait behind each other."""

M = TypeVar("M", bound=Message)


class Flow(NamedTuple):
    """The traffic of one link so far, in bytes."""

    arrived: int
    """From the peer, whole frames or not."""
    carried: int
    """Taken by the line."""
    waiting: int
    """Handed to the writer, and not taken by the line yet."""


NOTHING: Final = Flow(0, 0, 0)


class Bucket:
    """A token bucket, counted in bytes: so much may be handed to a line that an operator has limited.

    It holds the bytes of BURST_SECONDS at most. Small frames go in any case and leave a debt.
    """

    def __init__(self, rate: int, flow: Callable[[], Flow]) -> None:
        """``rate``: bytes a second; 0: no limit."""
        self.rate = rate
        self._flow = flow
        self._level = rate * BURST_SECONDS
        self._at = 0.0
        self._handed = 0

    def fill(self, now: float) -> None:
        """Time has passed."""
        handed = self._handed_over()
        left = self._level - (handed - self._handed)
        self._level = min(left + self.rate * (now - self._at), self.rate * BURST_SECONDS)
        self._at, self._handed = now, handed

    @property
    def empty(self) -> bool:
        """Whether no large frame may be handed over now."""
        return self.rate > 0 and self._handed_over() - self._handed >= self._level

    def _handed_over(self) -> int:
        _, carried, waiting = self._flow()
        return carried + waiting


class Line:
    """The sending half of a link as a session sees it."""

    def __init__(
        self, send: Callable[[Message], bool], flow: Callable[[], Flow] | None = None, limit: int = 0
    ) -> None:
        """``flow`` None: it carries any number. ``limit``: bytes a second that an operator allows; 0: any."""
        self._send = send
        self.flow = flow or (lambda: NOTHING)
        self._rate = RATE_MAX if flow is None else RATE_FIRST
        self._rate_max = min(RATE_MAX, limit or RATE_MAX)
        self._bucket = Bucket(limit, self.flow)
        self._queue: deque[tuple[Message, int]] = deque()
        self._queued = 0
        self._cut = b""
        """The encoded first message of the queue while it is sent in pieces, up to ``_offset`` so far."""
        self._offset = 0
        self._frames = 0
        self._refused = False
        """More was wanted than the line had room for."""
        # since which byte, and since when, it is being measured
        self._carried = 0
        self._since: float | None = None
        self._emptied = self._full = False
        """The writer was empty since then; it was ever not empty for a whole measurement."""
        self._proven, self._proof_since = 0, 0.0
        """Bytes that were sent since then and have come."""

    @property
    def piece(self) -> int:
        """Bytes that the line carries in PIECE_SECONDS: as large is a part."""
        return int(self._rate * PIECE_SECONDS)

    @property
    def batch(self) -> int:
        """Bytes of entries that make one batch."""
        return max(BATCH_BYTES_MIN, min(BATCH_BYTES_MAX, self.piece))

    @property
    def free(self) -> bool:
        """Whether hardly anything waits in the writer, and an operator allows more."""
        return not self._bucket.empty and self.flow().waiting <= self._rate * AHEAD_SECONDS

    def has_room(self) -> bool:
        """Whether another large frame, which is there, should be made now."""
        self._refused = bool(self._queue) or not self.free
        return not self._refused

    @property
    def busy(self) -> bool:
        """Whether something waits here: call ``look`` again soon."""
        return bool(self._queue)

    def queued(self, kind: type[M]) -> list[M]:
        """Frames of this kind whose end has not been handed over yet."""
        return [message for message, _ in self._queue if isinstance(message, kind)]

    def vector_wait(self, origins: int) -> float:
        """Seconds between two vectors of so many origins that leave the line to what is new."""
        return origins * ORIGIN_BYTES / (self._rate * VECTOR_SHARE)

    def cuts(self, size: int) -> bool:
        """Whether a frame of so many bytes goes in parts."""
        return size > max(self.piece, URGENT_BYTES_MAX)

    def send(self, message: Message) -> bool:
        """Small frames at once, large ones when the line has room. False when the link is gone."""
        size = weight(message)
        if size <= URGENT_BYTES_MAX and not isinstance(message, BULK):
            return self._send(message)
        self._queue.append((message, size))
        self._queued += size
        return self._go_on()

    def look(self, now: float) -> None:
        """Measure, and hand over what the line has room for. At each answer, and often while ``busy``."""
        self._bucket.fill(now)
        _, carried, waiting = self.flow()
        if self._since is None:
            self._since = now
        taken, elapsed = carried - self._carried, now - self._since
        wanted, self._refused = waiting > 0 or self._refused or bool(self._queue), False
        self._emptied = self._emptied or not waiting
        enough = max(self.piece // 2, SLACK_SECONDS * self._rate - self._carried)
        if self._emptied and not self._full and taken >= enough:
            self._begin(RATE_GROWTH_FIRST * self._rate, carried, now)
        elif not wanted:
            self._begin(self._rate, carried, now)
        elif elapsed >= SAMPLE_SECONDS:
            share = min(0.5, elapsed / MEMORY_SECONDS)
            rate = (1 - share) * self._rate + share * taken / elapsed
            self._full = self._full or not self._emptied
            self._begin(
                rate * RATE_GROWTH if self._emptied else rate, carried, now
            )  # it may carry more than it got
        self._go_on()

    def proved(self, size: int, sent: float, now: float) -> None:
        """``size`` bytes that were sent at ``sent`` have come: the line carries no less.

        A small credit window keeps a line from ever being full, and then nothing else makes it faster.
        """
        if sent >= self._proof_since:
            self._proven += size
        if sent - self._proof_since >= SAMPLE_SECONDS:
            self._rate = max(self._rate, min(self._rate_max, self._proven / (now - self._proof_since)))
            self._proven, self._proof_since = 0, now

    def _begin(self, rate: float, carried: int, now: float) -> None:
        """The next measurement."""
        self._rate = max(RATE_MIN, min(self._rate_max, rate))
        self._carried, self._since, self._emptied = carried, now, False

    def _go_on(self) -> bool:
        alive = True
        while alive and self._queue:
            # a queue without end is the link's to refuse, as with whoever does not read
            flooded = self._queued > LINK_QUEUE_BYTES_MAX
            if not flooded and not self.free:
                break
            alive = self._next_piece()
        return alive

    def _next_piece(self) -> bool:
        message, size = self._queue[0]
        if not self._cut:
            if not self.cuts(size):
                self._pop()
                return self._send(message)
            self._cut, self._offset = codec.encode(message), 0
            self._frames += 1
        end = min(len(self._cut), self._offset + max(self.piece, 1))
        part = wire.Part(self._frames, self._offset, end == len(self._cut), self._cut[self._offset : end])
        self._offset = end
        if part.last:
            self._cut = b""
            self._pop()
        return self._send(part)

    def _pop(self) -> None:
        self._queued -= self._queue.popleft()[1]


class Pulse:
    """When something last came over a line, be it a piece of a frame that takes its time."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._at = 0.0
        self._arrived = 0

    def start(self, at: float) -> None:
        """Nothing is expected before ``at``."""
        self._at, self._arrived = at, self._line.flow().arrived

    def felt(self, now: float) -> None:
        """A frame has come."""
        self._at = now

    def silence(self, now: float) -> float:
        """Seconds without a byte, as far as looking so often shows."""
        arrived = self._line.flow().arrived
        if arrived != self._arrived:
            self._at, self._arrived = now, arrived
        return max(0.0, now - self._at)


class Parts:
    """The receiving half: puts together what came in parts, one frame at a time."""

    def __init__(self) -> None:
        self._frame = 0
        self._payload = bytearray()

    def join(self, part: wire.Part) -> bytes | None:
        """The whole frame with its last part; one that lost a part never ends. Raises ProtocolError."""
        if part.offset == 0:
            self._frame, self._payload = part.frame, bytearray()
        if part.frame != self._frame or part.offset != len(self._payload):
            return None
        self._payload += part.payload
        if len(self._payload) > FRAME_BYTES_MAX:
            raise ProtocolError(f"parts of a frame beyond {FRAME_BYTES_MAX} bytes")
        if not part.last:
            return None
        whole, self._payload = bytes(self._payload), bytearray()
        return whole


def weight(message: Message) -> int:
    """About how many bytes a frame is, without making it."""
    match message:
        case wire.Entries() | wire.Supply():
            authors = AUTHOR_BYTES * len(message.authors)
            return authors + sum(entry.size for entry in message.entries)
        case wire.SnapshotChunk() | wire.CopyPiece():
            return len(message.payload)
        case wire.Ranges():
            return len(message.sums)
        case wire.Items():
            return len(message.items)
        case wire.Copies():
            rows = sum(len(copy.body or b"") + len(copy.stamps or b"") + 256 for copy in message.copies)
            return rows + len(message.unknown) + len(message.waits)
        case wire.Vectors() | wire.GapRequest() | wire.SnapshotOffer():
            return ORIGIN_BYTES * len(message.vector)
        case wire.Want():
            return ORIGIN_BYTES * len(message.ids)
        case wire.VectorChange():
            return ORIGIN_BYTES * len(message.changes)
        case wire.Heartbeat():
            rows = sum(len(row.vector) + 2 for row in message.members)
            return ORIGIN_BYTES * (rows + 1 + len(message.vector or ()) + len(message.near or ()))
    return ORIGIN_BYTES
