"""Both halves of a session's snapshots: the giving to the peer, and the taking from it."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import Context
from entgldb.actors.line import Line
from entgldb.actors.ports import LogReader, SnapshotChunks
from entgldb.actors.session.snapshot_giving import SnapshotGiving
from entgldb.actors.session.snapshot_taking import SnapshotTaking
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.schema import Json, Message

FRAMES = (wire.SnapshotOffer, wire.SnapshotWant, wire.SnapshotChunk, wire.SnapshotEnd)


class SnapshotExchange:
    """One per session."""

    def __init__(
        self,
        ends: tuple[str, str, str],
        log: LogReader,
        line: Line,
        chunks: SnapshotChunks | None,
        *,
        cloud: bool,
        count: Callable[[Reason], None],
    ) -> None:
        """``ends``: the session, the actor that has it, the node at its other end."""
        name, owner, peer = ends
        self.giving = SnapshotGiving(
            name=name, owner=owner, log=log, line=line, chunks=chunks, cloud=cloud, count=count
        )
        self.taking = SnapshotTaking(
            name=name, owner=owner, log=log, send=line.send, cloud=cloud, count=count, peer=peer
        )

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
