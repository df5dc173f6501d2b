"""OplogActor: history. Forgets what all have, makes and stages snapshots, compares documents with others."""

from __future__ import annotations

from entgldb.actors.behaviour import INFO, Behaviour, Context, refuse
from entgldb.actors.oplog.compaction import Compaction
from entgldb.actors.oplog.retention import Retention
from entgldb.actors.oplog.snapshots import SnapshotKeeper
from entgldb.actors.oplog.verifier import Verifier
from entgldb.actors.ports import Disk, Fingerprints, LogReader, SnapshotShelf
from entgldb.messages.administration import Compact
from entgldb.messages.client import Report, Status, Verify
from entgldb.messages.errors import EntglError
from entgldb.messages.local.actors import (
    Configure,
    ReleaseHeld,
    SessionEnded,
    StopNow,
    Stopped,
    Tick,
)
from entgldb.messages.local.members import Collected, Pruned
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.local.verification import TellPeers
from entgldb.messages.schema import Json
from entgldb.messages.settings import OplogSettings

RELEASE_INTERVAL, RELEASE_INTERVAL_IDLE = 1.0, 5.0
"""Seconds between looks at held entries, and while there are none."""
UPKEEP_INTERVAL = 30.0
"""Seconds between two times that the store tidies up, where nothing is held and the log stands still."""
VERIFY_AFTER_START = 60.0
"""Seconds to the first verification: after a restore, a rebuild, whatever the disk did meanwhile."""


class OplogKeeper(Behaviour):
    """In its own process, so that the store's time goes into commits and that of sync to its peers."""

    name = "oplog"

    def __init__(
        self,
        settings: OplogSettings,
        log: LogReader,
        documents: Fingerprints,
        shelf: SnapshotShelf,
        disk: Disk,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._log, self._disk = log, disk
        self._snapshots = SnapshotKeeper(log, shelf, self.count, self._room)
        self._verifier = Verifier(log, documents, self.count, in_cloud=settings.role == "cloud")
        self._rounds = 0
        self._release_in = RELEASE_INTERVAL
        self._released_at, self._released_lsn = -UPKEEP_INTERVAL, -1
        """When the store was last asked to release, and what was then the end of the log."""
        self._retention = Retention(log, settings)
        self._compaction = Compaction()
        self.parts = (self._snapshots, self._verifier, self._compaction)

    def start(self, ctx: Context) -> None:
        ctx.after(RELEASE_INTERVAL, Tick("release"))
        ctx.after(self._retention.interval, Tick("retention"))
        for owner in ("sync", "gateway"):
            ctx.tell(owner, TellPeers())
        self._verify_later(ctx)
        ctx.after(VERIFY_AFTER_START, Tick("verify-first"))

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.oplog is not None:
            changed = self.settings.verify_interval != message.oplog.verify_interval
            self.settings = self._retention.settings = message.oplog
            if changed:
                self._verify_later(ctx)

    def _room(self) -> int | None:
        free = self._disk.free_bytes()
        return None if free is None else free - self.settings.hard_floor

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "release":
            self._release(ctx)
        elif message.what == "retention":
            ctx.after(self._retention.interval, message)
            self._retention.look(ctx)
        elif message.what == "verify-first":
            if self.settings.verify_interval > 0:
                self._verifier.wish(ctx)
        elif message.what != "verify":
            self._verifier.tick(message, ctx)
        elif message.generation == self._rounds:
            self._verify_later(ctx)
            self._verifier.round(ctx)

    def _verify_later(self, ctx: Context) -> None:
        """The next run by itself."""
        self._rounds += 1
        if self.settings.verify_interval > 0:
            ctx.after(self.settings.verify_interval, Tick("verify", self._rounds))

    def _release(self, ctx: Context) -> None:
        ctx.after(self._release_in, Tick("release"))
        self._snapshots.tend(ctx)
        held, lsn, now = bool(self._log.held()), self._log.last_lsn(), ctx.monotonic()
        self._release_in = RELEASE_INTERVAL if held else RELEASE_INTERVAL_IDLE
        # a release is a transaction, and so an fsync: an idle node has no reason for one
        if held or lsn != self._released_lsn or now - self._released_at >= UPKEEP_INTERVAL:
            self._released_at, self._released_lsn = now, lsn
            ctx.tell("store", ReleaseHeld())

    def on_pruned(self, message: Pruned, ctx: Context) -> None:
        self._retention.on_pruned(message, ctx)
        self._compaction.go_on(self._retention, ctx)

    def on_collected(self, message: Collected, ctx: Context) -> None:
        self._retention.on_collected(message, ctx)
        self._compaction.go_on(self._retention, ctx)

    def on_compact(self, message: Compact, ctx: Context) -> None:
        self._compaction.ask(ctx.asker)
        self._retention.look(ctx)
        self._compaction.go_on(self._retention, ctx)

    def on_session_ended(self, message: SessionEnded, ctx: Context) -> None:
        self._snapshots.ended(message)
        self._verifier.ended(message, ctx)

    # --- verification ------------------------------------------------------------------------------

    def on_snapshot_installed(self, message: SnapshotInstalled, ctx: Context) -> None:
        self._snapshots.on_snapshot_installed(message, ctx)
        if not message.refused:
            ctx.log(INFO, "verification begins: a snapshot was merged")
            self._verifier.wish(ctx)

    def on_verify(self, message: Verify, ctx: Context) -> None:
        """Somebody wants to know; answered with the runs that begin."""
        try:
            runs = self._verifier.begin(message.peer, ctx, fresh=True, repair=message.repair)
        except EntglError as fault:
            refuse(ctx, fault)
            return
        ctx.answer(ctx.asker, Report({"runs": runs}))

    # --- looking and stopping ------------------------------------------------------------------------

    def on_status(self, message: Status, ctx: Context) -> None:
        body: dict[str, Json] = {
            "counts": dict(self.counts),
            "vector": {origin: [seq, head.hex()] for origin, (seq, head) in self._log.vector().items()},
            "lsn": self._log.last_lsn(),
            "origin": self._log.origin,
            "verify": {"interval": self.settings.verify_interval, **self._verifier.status()},
            "alarms": self._verifier.alarms(),
            **self._retention.status(ctx),
            **self._snapshots.status(),
        }
        ctx.answer(ctx.asker, Report(body))

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        ctx.answer(ctx.asker, Stopped(self.name))
