"""The sending half of a session: our log, in our commit order, less what the peer already has.

A node always sends in its own lsn order and skips what the receiver's vector covers. By induction
nobody sees an effect before its cause (causal delivery for the price of one integer).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from entgldb.actors.backoff import backoff
from entgldb.actors.behaviour import Context
from entgldb.actors.figures import Propagation, stamp_ms
from entgldb.actors.line import AUTHOR_BYTES, Line, weight
from entgldb.actors.ports import LogReader
from entgldb.actors.session import own_log
from entgldb.messages.errors import Reason
from entgldb.messages.limits import ENTRIES_PER_BATCH_MAX, PAGE_ROWS_MAX, WINDOW_BATCHES_MAX, WINDOW_BYTES_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Entry, Vector
from entgldb.messages.wire import Entries
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.results import LogRow

RELAY_DELAY = 0.05
"""Seconds a foreign entry waits: by then the peer usually says that it has it from its origin."""
FED_WINDOW, RELAY_PATIENCE = 0.5, 5.0
"""Seconds for which a peer counts as fed by others, and for which a relay waits at most because of it."""
PAGES_PER_BATCH_MAX = 16
"""Pages of the log read for one batch: the entries that the peer lacks may lie far apart in it."""
RESEND_FIRST, RESEND_MAX = 2.0, 60.0
"""Seconds between sending the same missing entries again to a peer whose vector does not move."""


class Sent(NamedTuple):
    """A batch that has gone out."""

    size: int
    """In bytes."""
    stamp: int
    """When its last entry was written."""
    at: float
    """When it went out, on the monotonic clock."""


class Outbox:
    """Decides what goes to one peer next. Reads the log, keeps a cursor and a credit window."""

    def __init__(
        self,
        log: LogReader,
        line: Line,
        propagation: Propagation,
        *,
        cloud: bool,
        live_push: bool,
        count: Callable[[Reason], None],
    ) -> None:
        self._propagation = propagation
        self._log = log
        self._line = line
        self._cloud = cloud
        self._count = count
        self.live_push = live_push
        self.relay_delay = RELAY_DELAY
        self.peer: dict[str, int] | None = None
        """Origin -> seq that the peer says it has; None until it has said so."""
        self.held: Mapping[str, int] = {}
        """Origin -> seq that the peer holds back by its clock."""
        self.round = 0
        self.sent = 0
        self.acked = 0
        """Batches of this round that the peer has acknowledged."""
        self._unacked: deque[Sent] = deque()
        """Batches that the peer has not acknowledged."""
        self._unacked_bytes = 0
        self._no_room = False
        """The line has kept us from sending more."""
        self._cursor = 1
        self._permitted = 0
        self._relays: deque[tuple[float, int]] = deque()
        self._shipped: dict[str, int] = {}
        self._passed: dict[str, int] = {}
        """Origin -> seq that has gone out since the cursor was last set back."""
        self._named: set[str] = set()
        """Origins whose authors have gone out in this round, since something of it was sent again."""
        self._fed_at: dict[str, float] = {}
        """Origin -> when the peer last gained entries of it that we had not sent."""
        self._resend_at = 0.0
        self._resends = 0
        self.cut_off = False
        """The peer lacks entries that our log has no more: those after them must not be sent."""
        self.quiet = False
        """The peer is being given a snapshot: the entries after the gap must not come before it."""

    def due_in(self, now: float) -> float:
        """Seconds until ``pump`` may find something to send; infinite where only others can bring it."""
        if self._no_room:
            return 0.0
        return max(0.0, self._relays[0][0] - now) if self._relays else math.inf

    @property
    def handed(self) -> int:
        """Batches of this round that have left for the peer, to the end of the last of them."""
        waiting = self._line.queued(Entries)
        return self.sent - sum(one.round == self.round for one in waiting)

    def begin(self, round_: int, vector: Vector, held: Mapping[str, int], ctx: Context) -> None:
        """Start ``round_`` from what the peer truly has."""
        self.round, self.sent, self.acked = round_, 0, 0
        self._unacked.clear()
        self._unacked_bytes = 0
        self._shipped = {}
        self._named = set()
        self.peer = vectors.seqs(vector)
        self.held = held
        self._look_at_floors()
        self._rewind()
        self.pump(ctx)

    def learn(self, vector: Vector, ctx: Context, *, gained: bool = True) -> None:
        """The peer has all this; ``gained`` just now, from us or from others."""
        if self.peer is None:
            return
        for origin, (seq, _) in vector.items():
            if seq > self.peer.get(origin, 0):
                self.peer[origin] = seq
                if gained and seq > self._shipped.get(origin, 0):
                    self._fed_at[origin] = ctx.monotonic()
                self._resends = 0

    def compare(self, vector: Vector, held: Mapping[str, int], ctx: Context) -> None:
        """Anti-entropy: with nothing on its way, whatever the peer's whole vector lacks goes out again."""
        if self.peer is None:
            self.begin(0, vector, held, ctx)
            return
        self.learn(vector, ctx)
        self.held = held
        self._look_at_floors()
        # a peer that has the beginning of a group lacks it until the rest has found room on the line
        if self.sent > self.acked or self._no_room or self.cut_off or self.quiet:
            return
        start = self._log.first_missing(self._covered())
        if start < self._cursor:
            # An entry the peer cannot take (quarantined there) must not be sent for ever at full speed.
            if ctx.monotonic() < self._resend_at:
                return
            self._resends += 1
            self._resend_at = ctx.monotonic() + backoff(self._resends, RESEND_FIRST, RESEND_MAX)
            # refused perhaps: its writer was named by the word of a cluster key that counts no more
            self._named = set()
        elif self._relays:
            return  # all that is missing waits for its relay delay: the peer may be about to get it
        self._rewind()
        self.pump(ctx)

    def committed(self, last: int, own_last: int, ctx: Context) -> None:
        """Our log has grown: own entries go at once, foreign ones after the relay delay."""
        if not self.live_push:
            return
        self._permitted = max(self._permitted, own_last)
        if last > own_last:
            self._relays.append((ctx.monotonic() + self.relay_delay, last))
            if self.relay_delay:
                self._count(Reason.RELAY_DELAY)
        self.pump(ctx)

    def acknowledged(self, round_: int, batch: int, ctx: Context) -> None:
        """The peer has committed everything up to ``batch``."""
        if round_ == self.round and batch < self.sent:
            while self.acked <= batch:
                self.acked += 1
                done = self._unacked.popleft()
                self._unacked_bytes -= done.size
                self._line.proved(done.size, done.at, ctx.monotonic())
                self._propagation.arrived("out", done.stamp, ctx)
            self.pump(ctx)

    def pump(self, ctx: Context) -> None:
        """Send what may be sent."""
        now = ctx.monotonic()
        while self._relays and self._relays[0][0] <= now:
            if now < self._relays[0][0] + RELAY_PATIENCE and self._is_fed(now):
                break
            self._permitted = max(self._permitted, self._relays.popleft()[1])
        self._no_room = False
        if self.peer is None or self.cut_off or self.quiet:
            return
        while self._cursor <= self._permitted and not self._window_full:
            self._no_room = not self._line.has_room()
            if self._no_room or not self._send_batch(now):
                return
        if self._cursor <= self._permitted:
            self._count(Reason.WINDOW_FULL)

    @property
    def _window_full(self) -> bool:
        return len(self._unacked) >= WINDOW_BATCHES_MAX or self._unacked_bytes >= WINDOW_BYTES_MAX

    def behind(self) -> int | None:
        """Operations the peer lacks; None while unknown."""
        return None if self.peer is None else vectors.lag(self.peer, vectors.seqs(self._log.vector()))

    def _is_fed(self, now: float) -> bool:
        """Whether others are sending the peer the very log that its next missing entry belongs to."""
        if all(now >= at + FED_WINDOW for at in self._fed_at.values()):
            return False
        rows = self._log.rows(self._log.first_missing(self._covered()), 1)
        return bool(rows) and now < self._fed_at.get(rows[0].origin, -FED_WINDOW) + FED_WINDOW

    def _covered(self) -> dict[str, int]:
        return vectors.covered_by_any((self.peer or {}, self.held))

    def _rewind(self) -> None:
        self._passed = {}
        self._cursor = self._log.first_missing(self._covered())
        self._permitted = max(self._permitted, self._log.last_lsn())

    def _send_batch(self, now: float) -> bool:
        """Fill and send one batch; False when there is nothing to send or the link is gone."""
        covered = self._covered()
        gone_out = dict(self._passed)
        entries: list[Entry] = []
        recorded: list[int] = []
        unnamed, signed = dict[str, None](), dict[str, int]()
        size, most, pages = 0, self._line.batch, 0
        while self._cursor <= self._permitted and not (entries and pages >= PAGES_PER_BATCH_MAX):
            # no row behind what may be sent, nor many more than the batch has room for
            fitting = min(self._permitted - self._cursor, ENTRIES_PER_BATCH_MAX - len(entries)) + 1
            rows = self._log.rows(self._cursor, min(fitting, PAGE_ROWS_MAX))
            if not rows:
                break
            pages, before = pages + 1, len(entries)
            for row in rows:
                if row.lsn > self._permitted:
                    break
                if self._is_due(row, covered, signed):
                    entry = self._entry(row)
                    cost = entry.size
                    named = row.origin in self._named or row.origin in unnamed
                    cost += 0 if named else AUTHOR_BYTES
                    if entries and (size + cost > most or len(entries) >= ENTRIES_PER_BATCH_MAX):
                        return self._ship(entries, recorded, gone_out, unnamed, now)
                    if not row.applied and not self._cloud:
                        recorded.append(len(entries))
                    entries.append(entry)
                    unnamed.setdefault(row.origin)
                    self._shipped[row.origin] = self._passed[row.origin] = row.seq
                    size += cost
                self._cursor = row.lsn + 1
            else:
                if len(entries) == before:
                    self._skip(covered)
                continue
            break
        return bool(entries) and self._ship(entries, recorded, gone_out, unnamed, now)

    def _is_due(self, row: LogRow, covered: Mapping[str, int], signed: dict[str, int]) -> bool:
        """Whether the peer lacks a row, and can be shown who wrote it. ``signed`` is kept for a batch.

        Where a branch was taken out, the end of a log is without a signature until the other one comes.
        """
        if row.seq <= covered.get(row.origin, 0):
            return False
        if row.seq > signed.get(row.origin, 0):
            by_itself = row.signature is not None
            signed[row.origin] = row.seq if by_itself else self._log.signed_upto(row.origin)
        return row.seq <= signed[row.origin]

    def _skip(self, covered: Mapping[str, int]) -> None:
        """Go to the next row that the peer lacks by one look into the index, not row by row."""
        beyond = {o: max(seq, self._passed.get(o, 0)) for o, seq in (self._passed | dict(covered)).items()}
        self._cursor = max(self._cursor, self._log.first_missing(beyond))

    def _entry(self, row: LogRow) -> Entry:
        hidden = self._cloud and row.collection.startswith(SYSTEM_PREFIX)
        return Entry(row.header, None if hidden else row.body, row.signature)

    def _ship(
        self,
        entries: list[Entry],
        recorded: list[int],
        gone_out: Mapping[str, int],
        origins: Iterable[str],
        now: float,
    ) -> bool:
        # rows may have been pruned while this batch was read: the entries after them would come too early
        if vectors.behind(self._log.floors(), vectors.covered_by_any((self._covered(), gone_out))):
            self._count(Reason.BEHIND_SNAPSHOT)
            # nor may later ones, before the peer has said once more what it has: this batch is missing
            self.cut_off = True
            return False
        authors = own_log.authors_of(self._log, [one for one in origins if one not in self._named])
        self._named.update(origins)
        batch = Entries(self.round, self.sent, tuple(entries), tuple(recorded), authors)
        self.sent += 1
        size = weight(batch)
        self._unacked.append(Sent(size, stamp_ms(entries[-1].header), now))
        self._unacked_bytes += size
        return self._line.send(batch)

    def _look_at_floors(self) -> None:
        """The peer has just said what it has: whether the log can bring it on."""
        self.cut_off = vectors.behind(self._log.floors(), self._covered())
        if self.cut_off:
            self._count(Reason.BEHIND_SNAPSHOT)
