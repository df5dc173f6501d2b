"""The taking half of a session's snapshots: chunks are asked for, a few at a time, and handed to oplog.

The chunks on disk decide which ones to ask for next. So a broken link, a lost frame and a dead actor are one
case: the session asks oplog how far it has come, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import LogReader
from entgldb.messages import wire
from entgldb.messages.errors import Reason, known_reason
from entgldb.messages.limits import NAME_CHARS_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNKS_MAX, SNAPSHOT_ROWS_MAX
from entgldb.messages.local.snapshots import (
    LeaveSnapshot,
    SnapshotInstalled,
    SnapshotStaged,
    StageChunk,
    StageSnapshot,
)
from entgldb.messages.model import Vector
from entgldb.messages.schema import Json, Message

IN_FLIGHT_MAX: Final = 4
"""Chunks asked for and not yet on disk, once some have come."""
PATIENCE_FIRST: Final = 10.0
"""Seconds without progress, on a line not known yet, after which oplog is asked how far it has come."""
PATIENCE_MIN: Final = 2.0
PATIENCE_MAX: Final = 60.0
"""Seconds of that patience at most, once the line is known; ``PATIENCE_MIN`` at least."""
CHUNKS_OF_PATIENCE: Final = 4.0
"""Chunks that might have come meanwhile."""


class Ends(NamedTuple):
    """Between whom a snapshot goes."""

    session: str
    owner: str
    """The actor that has the session."""
    peer: str
    """The node at its other end."""
    cloud: bool


class SnapshotTaking:
    """The taking of a snapshot from one peer."""

    def __init__(
        self, ends: Ends, log: LogReader, send: Callable[[Message], bool], count: Callable[[Reason], None]
    ) -> None:
        self._name, self._owner, self._peer, self._cloud = ends
        self._log = log
        self._send = send
        self._count = count
        self._offer: wire.SnapshotOffer | None = None
        self._staged = 0
        self._arrived = 0
        """The next chunk that oplog can use."""
        self._asked = 0
        self._window = 1
        """Chunks that may be under way: one more with each that comes, and one again after a stall."""
        self._moved_at = 0.0
        """When the last chunk came."""
        self._begun_at = 0.0
        """When oplog was last asked, or a piece of a frame came."""
        self._resumed_at = 0.0
        """When chunks were last asked for from the start: a stall before is not the line's."""
        self._patience = PATIENCE_FIRST
        self._in_vain: Vector = {}
        """How far one went that was taken for configuration that is lacking here, and did not bring it."""

    def touch(self, ctx: Context) -> None:
        """A piece of a frame has come, perhaps of a chunk."""
        self._begun_at = ctx.monotonic()

    def offered(self, offer: wire.SnapshotOffer, ctx: Context) -> None:
        """The peer has one for us."""
        fault = self._fault(offer)
        if fault is not None:
            self._count(fault)
            self._send(wire.SnapshotEnd(offer.id, fault.value))
        elif self._offer is None or self._offer.id != offer.id:
            self._offer, self._staged, self._patience = offer, 0, PATIENCE_FIRST
            self._moved_at = ctx.monotonic()
            self._begin(ctx)

    def staged(self, message: SnapshotStaged, ctx: Context) -> None:
        """Oplog has come so far."""
        offer = self._offer
        if offer is None or message.id != offer.id:
            return
        if message.refused:
            reason = known_reason(message.refused, Reason.BEHIND_SNAPSHOT)
            self._count(reason)
            self._offer = None
            if reason is not Reason.BEHIND_SNAPSHOT:
                # it would be the same again at once
                self._send(wire.SnapshotEnd(message.id, reason.value))
            return
        if message.next > self._staged:
            took = ctx.monotonic() - max(self._moved_at, self._resumed_at)
            if self._staged:  # the first is small: it tells nothing
                self._patience = min(PATIENCE_MAX, max(PATIENCE_MIN, CHUNKS_OF_PATIENCE * took))
            self._moved_at = ctx.monotonic()
            self._window = min(IN_FLIGHT_MAX, self._window + 1)
        self._staged = message.next
        self._arrived = max(self._arrived, message.next)
        self._asked = max(self._asked, message.next)
        while self._asked < min(offer.chunks, self._staged + self._window):
            self._send(wire.SnapshotWant(offer.id, self._asked))
            self._asked += 1

    def came(self, chunk: wire.SnapshotChunk, ctx: Context) -> None:
        """One that we have asked for, or one too late."""
        offer = self._offer
        if offer is None or chunk.id != offer.id or chunk.chunk != self._arrived:
            self._count(Reason.OUT_OF_ORDER)
            return
        self._arrived += 1
        ctx.tell("oplog", StageChunk(self._name, chunk.id, chunk.chunk, chunk.payload, chunk.sha256))

    def ended(self, message: wire.SnapshotEnd, ctx: Context) -> None:
        """The sender has it no more: its next offer begins another, or somebody else's is taken."""
        if self._offer is not None and self._offer.id == message.id:
            self._count(known_reason(message.reason, Reason.SNAPSHOT_GONE))
            self._offer = None
            ctx.tell("oplog", LeaveSnapshot(self._name, message.id))

    def installed(self, done: SnapshotInstalled) -> bool:
        """It is merged, or will not be; whether it was ours."""
        offer = self._offer
        if offer is None or offer.id != done.id:
            return False
        self._offer = None
        self._in_vain = {} if done.refused or done.changes or not self._lacks() else offer.vector
        if done.refused:
            self._count(known_reason(done.refused, Reason.STORE_BUSY))
            self._send(wire.SnapshotEnd(done.id, done.refused))
        return True

    def beat(self, ctx: Context) -> None:
        """Every heartbeat interval."""
        offer = self._offer
        if offer is None or ctx.monotonic() - max(self._moved_at, self._begun_at) <= self._patience:
            return
        if self._staged < offer.chunks:  # else it is being merged
            self._count(Reason.GAP)
            self._patience = min(PATIENCE_MAX, 2 * self._patience)
        self._begin(ctx)

    def status(self) -> Json:
        """None while nothing is taken."""
        offer = self._offer
        return offer and {
            "direction": "in",
            "id": offer.id,
            "chunks": offer.chunks,
            "next": self._staged,
            "rows": offer.rows,
            "bytes": offer.bytes,
        }

    def _begin(self, ctx: Context) -> None:
        assert self._offer is not None
        self._begun_at = self._resumed_at = ctx.monotonic()
        self._arrived = self._asked = 0
        self._window = 1
        offer = self._offer
        ctx.tell(
            "oplog",
            StageSnapshot(
                self._owner,
                self._name,
                offer.id,
                offer.chunks,
                self._cloud,
                offer.bytes,
                self._peer,
            ),
        )

    def _waits_for_a_decision(self, offer: wire.SnapshotOffer) -> bool:
        """Whether it has more of a log that has a fork here, or another branch: the store would refuse it."""
        mine = self._log.vector()
        return any(
            offer.vector[origin][0] >= mine[origin][0] and offer.vector[origin] != mine[origin]
            for origin in self._log.forked() & mine.keys() & offer.vector.keys()
        )

    def _fault(self, offer: wire.SnapshotOffer) -> Reason | None:
        if _is_too_large(offer):
            return Reason.TOO_LARGE
        if self._waits_for_a_decision(offer):
            return Reason.QUARANTINED
        return None if self._is_useful(offer) else Reason.SNAPSHOT_USELESS

    def _lacks(self) -> bool:
        """Whether our vector covers configuration that is not here."""
        return bool(self._log.unapplied(1)) or self._log.lacking() is not None

    def _is_useful(self, offer: wire.SnapshotOffer) -> bool:
        """Whether a file can be named so, and it has anything for us."""
        named = offer.id.isascii() and offer.id.isalnum() and len(offer.id) <= NAME_CHARS_MAX
        lacking = not self._cloud and _goes_beyond(offer, self._in_vain) and self._lacks()
        return named and offer.chunks > 0 and (lacking or _goes_beyond(offer, self._log.vector()))


def _goes_beyond(offer: wire.SnapshotOffer, vector: Vector) -> bool:
    return any(seq > vector.get(origin, (0, b""))[0] for origin, (seq, _) in offer.vector.items())


def _is_too_large(offer: wire.SnapshotOffer) -> bool:
    return (
        offer.chunks > SNAPSHOT_CHUNKS_MAX
        or offer.rows > SNAPSHOT_ROWS_MAX
        or offer.bytes > SNAPSHOT_BYTES_MAX
    )
