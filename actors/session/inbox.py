"""The receiving half of a session: the batches of a round in order, and a new round where one is missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.figures import Propagation, stamp_ms
from entgldb.actors.line import Line, weight
from entgldb.actors.ports import LogReader
from entgldb.actors.session.staging import Stage
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import WINDOW_BATCHES_MAX, WINDOW_BYTES_MAX
from entgldb.messages.local.actors import Applied

STALLED: Final = 3.0
"""Seconds without progress after which the receiver asks for a new round."""
FULL_PATIENCE: Final = 30.0
"""The same while our disk is full."""


class Backlog:
    """Received and not applied yet: twice the window at most, as a new round may begin behind an old one."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def add(self, size: int, stamp_ms: int) -> bool:
        """One more batch, of which the newest entry was written at ``stamp_ms``; whether there was too much
        already."""
        over = len(self._sizes) >= 2 * WINDOW_BATCHES_MAX or self._bytes > 2 * WINDOW_BYTES_MAX
        self._sizes.append((size, stamp_ms))
        self._bytes += size
        return over

    def done(self) -> int:
        """The store is through with the oldest; its stamp, 0 where it is not known."""
        size, stamp_ms = self._sizes.popleft() if self._sizes else (0, 0)
        self._bytes -= size
        return stamp_ms


class Inbox:
    """The batches that one peer sends: which of them are taken, and how patiently the next is waited for."""

    def __init__(
        self, log: LogReader, line: Line, count: Callable[[Reason], None], propagation: Propagation
    ) -> None:
        self._log, self._line, self._count = log, line, count
        self._propagation = propagation
        self._round = self._received = self._applied = 0
        self._backlog = Backlog()
        self.stage = Stage()
        """The beginnings of groups of which the rest is still to come in this round."""
        self.flooded = False
        """The peer sends more than it may, whatever is acknowledged."""
        self._in_vain = 0
        """Rounds refused since our vector last moved."""
        self._waits = False
        """This round was refused, and the next is not asked for at once."""
        self._patience = STALLED
        self._moved_at = 0.0

    def moved(self, ctx: Context) -> None:
        """Nothing is missed that had not come by now."""
        self._moved_at = ctx.monotonic()

    def admits(self, batch: wire.Entries, ctx: Context) -> bool:
        """Whether a batch is the next of the round."""
        if batch.round != self._round:
            self._count(Reason.OUT_OF_ORDER)
        elif batch.batch > self._received:
            self._count(Reason.GAP)
            self.ask_again(ctx)
        elif batch.batch < self._received:
            self._count(Reason.DUPLICATE)
        else:
            self._received += 1
            self.moved(ctx)
            self.flooded = self._backlog.add(weight(batch), _written_ms(batch)) or self.flooded
            return True
        return False

    def applied(self, done: Applied, ctx: Context) -> bool:
        """The store is through with a batch; whether it has taken one of this round."""
        if done.changes:
            self.gained()
        stamp = self._backlog.done()
        if done.round != self._round:
            return False
        if done.refused:
            self._refused(done, ctx)
            return False
        self.moved(ctx)
        self._applied = max(self._applied, done.batch + 1)
        self._line.send(wire.Ack(done.round, done.batch))
        self._propagation.arrived("in", stamp, ctx)
        return True

    def gained(self) -> None:
        """Our vector has moved: the next round that is refused is the first."""
        self._in_vain = 0

    def acknowledge_again(self, told: wire.Heartbeat) -> None:
        """The Ack of the last batch may have been lost, and with it the sender's credit."""
        if self._round == told.round and told.acked < self._applied:
            self._line.send(wire.Ack(self._round, self._applied - 1))

    def watch(self, told: wire.Heartbeat, ctx: Context, *, excused: bool) -> None:
        """Our request for a new round was lost, or batches were, or an actor of ours lost them.

        ``excused``: the peer sends nothing that we would take.
        """
        late = ctx.monotonic() - self._moved_at
        if told.round < self._round:
            if late > STALLED:
                self._ask(ctx)
        elif excused or told.sent <= self._applied:
            self.moved(ctx)
        elif late > self._patience:
            self._count(Reason.GAP)
            self._backlog = Backlog()
            self.ask_again(ctx)

    def ask_again(self, ctx: Context) -> None:
        """Ask the peer for a new round, from what we have."""
        self._waits, self._patience = False, STALLED
        self._round += 1
        self._received = self._applied = 0
        self.stage = Stage()
        self._ask(ctx)

    def _ask(self, ctx: Context) -> None:
        self.moved(ctx)
        self._line.send(wire.GapRequest(self._round, self._log.vector(), self._log.wants_no_more()))

    def _refused(self, done: Applied, ctx: Context) -> None:
        """Ask again at once; a second time in vain (a bad entry) only after STALLED.

        Of a full disk not before the store says that there is room, or, should that get lost, FULL_PATIENCE.
        """
        if done.again:
            self.ask_again(ctx)
        if done.again or self._waits:
            return
        self._in_vain += 1
        full = done.refused == Reason.DISK_FULL.value
        if self._in_vain == 1 and not full:
            self.ask_again(ctx)
        else:
            self._waits = True
            self._patience = FULL_PATIENCE if full else STALLED
            self.moved(ctx)


def _written_ms(batch: wire.Entries) -> int:
    return stamp_ms(batch.entries[-1].header) if batch.entries else 0
