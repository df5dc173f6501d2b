"""Oplog's part in snapshots: one that lies ready for whoever needs it, and one that is coming in.

Only one is taken in at a time, whoever offers: each goes to disk chunk by chunk, and at last to the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from entgldb.actors.behaviour import ERROR, INFO, Context
from entgldb.actors.ports import LogReader, SnapshotShelf, StagedSnapshot
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason
from entgldb.messages.local.actors import SessionEnded
from entgldb.messages.local.snapshots import (
    FreezeSnapshot,
    Frozen,
    InstallSnapshot,
    LeaveSnapshot,
    SnapshotFrozen,
    SnapshotInstalled,
    SnapshotStaged,
    SnapshotWritten,
    StageChunk,
    StageSnapshot,
    StoreBegan,
)
from entgldb.messages.schema import Json
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.vector import behind, seqs

SNAPSHOT_SECONDS: Final = 3600.0
"""How long a snapshot is given away: a receiver that lost its link goes on with it meanwhile."""
FREEZE_SECONDS_MAX: Final = 600.0
"""After which one that was begun and never told of is begun again."""

IDLE_SECONDS_MAX: Final = 60.0
"""Without a new chunk for so long, one that somebody else offers is taken instead."""
TAKEN_BYTES_PER_SECOND_MIN: Final = 1024
"""A giver that is slower than this on the whole does not keep others out, however regularly it sends."""
MERGE_SECONDS_MAX: Final = 600.0
"""After which a merge that was ordered and never told of is ordered again."""


class SnapshotKeeper:
    """A part of OplogKeeper."""

    def __init__(
        self,
        log: LogReader,
        shelf: SnapshotShelf,
        count: Callable[[Reason], None],
        room: Callable[[], int | None],
    ) -> None:
        """``room``: bytes that may still be written before the disk counts as full; None while unknown."""
        self._log, self._shelf, self._count, self._room = log, shelf, count, room
        self._ready: Frozen | None = None
        self._ready_at = 0.0
        self._freezing_since: float | None = None
        self._askers: dict[str, str] = {}
        """Session -> owner, of those that wait for one to be written."""
        self._coming: StageSnapshot | None = None
        """The snapshot whose chunks are taken; None while none is coming in."""
        self._staged: StagedSnapshot | None = None
        self._staged_id = ""
        self._moved_at = 0.0
        """When the one that is coming in began, or its last chunk came."""
        self._began_at = 0.0
        self._taken_bytes = 0
        """When the present giver began, and the bytes that it has sent since then."""
        self._staged_bytes = 0
        """Added to the staged one since it was opened."""
        self._idle_since: float | None = None
        """Since when nothing is coming in, by the clock of this life: the staged one may be of an earlier."""
        self._merging_since: float | None = None
        """Whether the store has the staged one in hand: nothing else is staged meanwhile."""

    # --- given away -------------------------------------------------------------------------------

    def on_freeze_snapshot(self, message: FreezeSnapshot, ctx: Context) -> None:
        """The one that lies ready, if it still leads up to what the log has; else a new one."""
        if self._ready is not None and self._ready.id == message.gone:
            self._shelf.discard(message.gone)
            self._ready = None
        ready, now = self._ready, ctx.monotonic()
        fresh = ready is not None and now - self._ready_at < SNAPSHOT_SECONDS
        if ready is not None and fresh and not behind(self._log.floors(), seqs(ready.vector)):
            ctx.tell(message.owner, SnapshotFrozen(message.session, ready))
            return
        self._askers[message.session] = message.owner
        if self._freezing_since is None or now - self._freezing_since > FREEZE_SECONDS_MAX:
            self._freezing_since = now
            self._shelf.freeze()

    def on_snapshot_written(self, message: SnapshotWritten, ctx: Context) -> None:
        self._freezing_since = None
        made = message.snapshot
        if made is None:
            self._count(Reason.DISK_ERROR)
            ctx.log(ERROR, f"no snapshot can be written: {message.fault}")
        else:
            if self._ready is not None and self._ready.id != made.id:
                self._shelf.discard(self._ready.id)
            self._ready, self._ready_at = made, ctx.monotonic()
            ctx.log(INFO, f"snapshot {made.id}: {made.rows} rows, {made.bytes} bytes")
        askers, self._askers = self._askers, {}
        for session, owner in askers.items():
            ctx.tell(owner, SnapshotFrozen(session, made))

    def tend(self, ctx: Context) -> None:
        """Now and then: what was given away long enough goes, and what nobody went on with for as long."""
        now = ctx.monotonic()
        if self._ready is not None and now - self._ready_at >= SNAPSHOT_SECONDS:
            self._shelf.discard(self._ready.id)
            self._ready = None
        if self._coming is not None or self._is_merging(ctx):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= SNAPSHOT_SECONDS:
            self._idle_since = None
            self._close()
            self._shelf.unstage()

    # --- coming in --------------------------------------------------------------------------------

    def on_stage_snapshot(self, message: StageSnapshot, ctx: Context) -> None:
        """Begin to take one in, or tell how far it has come."""
        if self._is_busy(message, ctx):
            self._count(Reason.BEHIND_SNAPSHOT)
            reason = Reason.BEHIND_SNAPSHOT.value
            ctx.tell(message.owner, SnapshotStaged(message.session, message.id, 0, reason))
            return
        if self._coming is None or self._coming.session != message.session:
            self._moved_at = self._began_at = ctx.monotonic()
            self._taken_bytes = 0
        self._coming = message
        try:
            if self._staged is None or self._staged_id != message.id:
                self._need_room(message.bytes)
                self._close()
                self._staged, self._staged_id = self._shelf.stage(message.id), message.id
                self._staged_bytes = 0
            self._go_on(ctx)
        except EntglError as fault:
            self._give_up(fault, ctx)

    def on_leave_snapshot(self, message: LeaveSnapshot, ctx: Context) -> None:
        """Its sender has it no more: the staged chunks stay, in case another sender goes on with it."""
        coming = self._coming
        if coming is not None and (coming.session, coming.id) == (message.session, message.id):
            self._coming = None

    def on_store_began(self, message: StoreBegan, ctx: Context) -> None:
        """A merge that the store had in hand died with it: the next session that asks orders it again."""
        self._merging_since = None

    def on_stage_chunk(self, message: StageChunk, ctx: Context) -> None:
        coming, staged = self._coming, self._staged
        if staged is None or coming is None or coming.session != message.session or coming.id != message.id:
            self._count(Reason.OUT_OF_ORDER)
            return
        if message.chunk != staged.next:
            self._count(Reason.DUPLICATE if message.chunk < staged.next else Reason.OUT_OF_ORDER)
            return
        if digest(message.payload) != message.sha256:
            self._count(Reason.BAD_ENTRY)  # it is asked for again, as one that was lost
            return
        self._taken_bytes += len(message.payload)
        try:
            if staged.next >= coming.chunks or self._staged_bytes + len(message.payload) > coming.bytes:
                raise ProtocolError(f"snapshot {coming.id} is larger than its offer said")
            self._need_room(len(message.payload))
            staged.add_chunk(message.chunk, message.payload, message.sha256)
            self._staged_bytes += len(message.payload)
            self._moved_at = ctx.monotonic()
            self._go_on(ctx)
        except EntglError as fault:
            self._give_up(fault, ctx)

    def on_snapshot_installed(self, message: SnapshotInstalled, ctx: Context) -> None:
        """The store is through with it; one that it could not take now stays for the next offer."""
        if message.id != self._staged_id:
            return
        self._coming = self._merging_since = None
        if message.refused:
            self._count(Reason(message.refused))
        elif self._staged is not None:
            self._staged.drop()
            self._staged, self._staged_id = None, ""

    def ended(self, message: SessionEnded) -> None:
        """A session is over: what it staged stays, and another may go on with it."""
        self._askers = {name: owner for name, owner in self._askers.items() if not message.covers(name)}
        if self._coming is not None and message.covers(self._coming.session):
            self._coming = None

    def status(self) -> dict[str, Json]:
        """The snapshot that lies ready and the one that is coming in, for ``status``."""
        ready, coming, staged = self._ready, self._coming, self._staged
        return {
            "snapshot": ready and {"id": ready.id, "rows": ready.rows, "bytes": ready.bytes},
            "staging": None
            if coming is None or staged is None
            else {"id": coming.id, "chunks": coming.chunks, "next": staged.next},
        }

    def _is_busy(self, wanted: StageSnapshot, ctx: Context) -> bool:
        """Whether another is being merged, or is coming in from somebody who still sends."""
        if self._is_merging(ctx):
            return wanted.id != self._staged_id
        coming = self._coming
        if coming is None or coming.session == wanted.session:
            return False
        now = ctx.monotonic()
        earned = IDLE_SECONDS_MAX + self._taken_bytes / TAKEN_BYTES_PER_SECOND_MIN
        return now - self._moved_at < IDLE_SECONDS_MAX and now - self._began_at < earned

    def _need_room(self, size: int) -> None:
        room = self._room()
        if room is not None and room < size:
            text = f"{size} bytes of a snapshot are to be kept, and the disk has room for {max(0, room)}"
            raise EntglError(text, code=ErrorCode.DISK_FULL)

    def _is_merging(self, ctx: Context) -> bool:
        since = self._merging_since
        return since is not None and ctx.monotonic() - since < MERGE_SECONDS_MAX

    def _go_on(self, ctx: Context) -> None:
        coming, staged = self._coming, self._staged
        assert coming is not None
        assert staged is not None
        ctx.tell(coming.owner, SnapshotStaged(coming.session, coming.id, staged.next))
        if staged.next >= coming.chunks and not self._is_merging(ctx):
            ctx.busy("indexing a snapshot")
            place = staged.finish(coming.id, whole=not coming.cloud)
            self._merging_since = ctx.monotonic()
            ctx.tell(
                "store",
                InstallSnapshot(coming.owner, coming.session, coming.id, place, coming.cloud, coming.peer),
            )

    def _give_up(self, fault: EntglError, ctx: Context) -> None:
        """It cannot be kept, or is none: its chunks are worth nothing."""
        coming, self._coming = self._coming, None
        reason = Reason.BAD_ENTRY if isinstance(fault, ProtocolError) else Reason.DISK_ERROR
        if fault.code is ErrorCode.DISK_FULL:
            reason = Reason.DISK_FULL
        self._count(reason)
        ctx.log(ERROR, f"a snapshot cannot be taken: {fault.text}")
        if self._staged is not None and reason is Reason.BAD_ENTRY:
            self._staged.drop()
            self._staged, self._staged_id = None, ""
        if coming is not None:
            ctx.tell(coming.owner, SnapshotStaged(coming.session, coming.id, 0, reason.value))

    def _close(self) -> None:
        if self._staged is not None:
            self._staged.close()
            self._staged, self._staged_id = None, ""
