"""The giving half of a session's snapshots: a peer that the log cannot serve is offered a state instead.

The outbox stays quiet meanwhile: an entry behind the gap may be the effect of one in the gap. The session
holds both halves as one exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.line import Line
from entgldb.actors.ports import LogReader, SnapshotChunks
from entgldb.actors.session.snapshot_taking import Ends, SnapshotTaking
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.snapshots import FreezeSnapshot, SnapshotFrozen
from entgldb.messages.model import Origin, Vector
from entgldb.messages.schema import Json, Message
from entgldb.storage.rules.vector import behind, covered_by_any, seqs

CountReason = Callable[[Reason], None]
FRAMES: Final = (wire.SnapshotOffer, wire.SnapshotWant, wire.SnapshotChunk, wire.SnapshotEnd)
AGAIN_SECONDS: Final = 5.0
"""Between two offers to a peer that asks for nothing, and two orders to oplog that stay without answer."""
DECLINED_SECONDS: Final = 60.0
"""How long a peer that does not want a snapshot is served from the log, as far as that goes."""
VAIN_SECONDS: Final = 10.0
"""How long a peer is taken to lack what it asked for in vain; it asks every sync interval."""
ENTRIES_PER_DOCUMENT: Final = 2
ENTRIES_MORE: Final = 4_096
"""An empty peer gets a snapshot where the log has so many times, and so many, more rows than documents."""


class SnapshotGiving:
    """The giving of a snapshot to one peer."""

    def __init__(
        self, ends: Ends, log: LogReader, line: Line, chunks: SnapshotChunks, count: CountReason
    ) -> None:
        self._name, self._owner, _, self._cloud = ends
        self._log = log
        self._line = line
        self._send = line.send
        self._chunks = chunks
        self._count = count
        self._offer: wire.SnapshotOffer | None = None
        self._next = 0
        self._gone = ""
        """One of which a chunk could not be read."""
        self._acted_at = -AGAIN_SECONDS
        self._declined_at = -DECLINED_SECONDS
        self._asked_in_vain_at = -VAIN_SECONDS

    def look(self, vector: Vector, held: Mapping[str, int], ctx: Context) -> bool:
        """The peer has all this: whether it lacks what is pruned, so that the outbox has to be quiet.

        A peer that only asks for what it has recorded lacks nothing that later entries rest on.
        """
        now = ctx.monotonic()
        if self._on_its_way():
            self._acted_at = now
        lacks = self._needs(vector, held)
        if now < self._declined_at + DECLINED_SECONDS or not (lacks or self._asks(ctx)):
            self._offer = None
            return False
        if now >= self._acted_at + AGAIN_SECONDS:
            self._count(Reason.BEHIND_SNAPSHOT)
            self._order(ctx)
        return lacks

    def asked_for(self, ids: Sequence[tuple[Origin, int]], ctx: Context) -> None:
        """The peer wants entries that it has only recorded: of those that are pruned only a state tells.

        So it is with all that there is up to a vector, which it asks for by an entry 0.
        """
        floors = self._log.floors()
        pruned = any(seq <= floors.get(origin, 0) for origin, seq in ids)
        if pruned and not self._cloud and self._log.vouches():
            self._asked_in_vain_at = ctx.monotonic()

    def frozen(self, message: SnapshotFrozen, ctx: Context) -> None:
        """Oplog has one for us: offer it."""
        made = message.snapshot
        if made is None:
            return
        chunks = made.common if self._cloud else made.chunks
        self._offer = wire.SnapshotOffer(made.id, made.vector, chunks, made.rows, made.bytes)
        self._acted_at, self._next = ctx.monotonic(), 0
        self._send(self._offer)

    def wanted(self, message: wire.SnapshotWant, ctx: Context) -> None:
        """The peer asks for a chunk."""
        offer = self._offer
        if message in self._on_its_way():
            return
        found = None
        # a cloud is not given more than it was offered
        if offer is not None and message.id == offer.id and message.chunk < offer.chunks:
            found = self._chunks.chunk(message.id, message.chunk)
            self._gone = offer.id if found is None else ""
        if found is None:
            self._count(Reason.SNAPSHOT_GONE)
            self._send(wire.SnapshotEnd(message.id, Reason.SNAPSHOT_GONE.value))
            return
        self._acted_at, self._next = ctx.monotonic(), message.chunk + 1
        self._send(wire.SnapshotChunk(message.id, message.chunk, *found))

    def declined(self, message: wire.SnapshotEnd, ctx: Context) -> None:
        """The peer does not want it."""
        if self._offer is not None and message.id == self._offer.id:
            self._declined_at = ctx.monotonic()
            if message.reason == Reason.SNAPSHOT_USELESS and self._asks(ctx):
                self._gone = message.id  # it does not go as far as what the peer asks for
            self._offer = None

    def status(self) -> Json:
        """None while nothing is given."""
        offer = self._offer
        return offer and {"direction": "out", "id": offer.id, "chunks": offer.chunks, "next": self._next}

    def _asks(self, ctx: Context) -> bool:
        """Whether the peer has just asked for what only a state tells."""
        return ctx.monotonic() < self._asked_in_vain_at + VAIN_SECONDS

    def _needs(self, vector: Vector, held: Mapping[str, int]) -> bool:
        has = covered_by_any((seqs(vector), held))
        return behind(self._log.floors(), has) or self._is_cheaper(has)

    def _is_cheaper(self, has: Mapping[str, int]) -> bool:
        """Whether the peer has nothing of ours, and our log is far longer than our state."""
        if any(has.get(origin) for origin in self._log.vector()):
            return False
        documents, entries = self._log.size()
        return entries > ENTRIES_PER_DOCUMENT * documents + ENTRIES_MORE

    def _on_its_way(self) -> list[wire.SnapshotWant]:
        """The chunks that the peer has asked for and that wait for the line."""
        chunks = self._line.queued(wire.SnapshotChunk)
        return [wire.SnapshotWant(one.id, one.chunk) for one in chunks]

    def _order(self, ctx: Context) -> None:
        self._acted_at = ctx.monotonic()
        ctx.tell("oplog", FreezeSnapshot(self._owner, self._name, self._gone))
        self._gone = ""


class SnapshotExchange:
    """Both halves, one per session."""

    def __init__(
        self, ends: Ends, log: LogReader, line: Line, chunks: SnapshotChunks, count: CountReason
    ) -> None:
        self.giving = SnapshotGiving(ends, log, line, chunks, count)
        self.taking = SnapshotTaking(ends, log, line.send, count)

    def receive(self, message: Message, ctx: Context) -> None:
        """One of FRAMES."""
        match message:
            case wire.SnapshotOffer():
                self.taking.offered(message, ctx)
            case wire.SnapshotChunk():
                self.taking.came(message, ctx)
            case wire.SnapshotWant():
                self.giving.wanted(message, ctx)
            case wire.SnapshotEnd():
                self.giving.declined(message, ctx)
                self.taking.ended(message, ctx)

    def status(self) -> Json:
        """The snapshot that is being given or taken; None while there is none."""
        return self.taking.status() or self.giving.status()
