"""OplogActor: history. Verifies what comes in, puts groups together, hands whole groups to the store."""

from __future__ import annotations

from entgldb.actors.behaviour import INFO, Behaviour, Context, refuse
from entgldb.actors.oplog.compaction import Compaction
from entgldb.actors.oplog.retention import Retention
from entgldb.actors.oplog.snapshots import SnapshotKeeper
from entgldb.actors.oplog.verifier import Verifier
from entgldb.actors.ports import Disk, Fingerprints, OplogReader, SnapshotShelf
from entgldb.messages.administration import Compact
from entgldb.messages.client import Report, Status, Verify
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason
from entgldb.messages.limits import GROUP_ENTRIES_MAX, STAGED_BYTES_MAX
from entgldb.messages.local.actors import (
    Apply,
    Configure,
    EntriesReceived,
    ReleaseHeld,
    SessionEnded,
    StopNow,
    Stopped,
    Tick,
)
from entgldb.messages.local.members import Collected, FileCompacted, Pruned
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.local.verification import Repaired, TellPeers, VerifyHeard, VerifyPeer
from entgldb.messages.model import Entry
from entgldb.messages.schema import Json
from entgldb.messages.settings import OplogSettings
from entgldb.storage.rules import header as headers

RELEASE_INTERVAL, RELEASE_INTERVAL_IDLE = 1.0, 5.0
"""Seconds between looks at held entries, and while there are none."""
VERIFY_AFTER_START = 60.0
"""Seconds to the first verification: after a restore, a rebuild, whatever the disk did meanwhile."""


class Stage:
    """The end of a batch that is the beginning of a group: kept until the rest comes."""

    def __init__(self, round_: int) -> None:
        self.round = round_
        self.clear()

    def clear(self) -> None:
        """Nothing is left over."""
        self.entries: list[Entry] = []
        self.recorded: list[bool] = []
        self.bytes = 0


class OplogKeeper(Behaviour):
    """Verification is here, in its own process, so that the store's time goes into commits."""

    name = "oplog"

    def __init__(
        self,
        settings: OplogSettings,
        log: OplogReader | None = None,
        documents: Fingerprints | None = None,
        shelf: SnapshotShelf | None = None,
        disk: Disk | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._log, self._disk = log, disk
        self._snapshots = SnapshotKeeper(log, shelf, self.count, self._room)
        self.parts = (self._snapshots,)
        self._verifier = None if log is None or documents is None else Verifier(log, documents, self.count)
        self._rounds = 0
        self._stages: dict[str, Stage] = {}
        self._verified = 0
        self._release_in = RELEASE_INTERVAL
        self._retention = Retention()
        self._compaction = Compaction()

    def start(self, ctx: Context) -> None:
        ctx.after(RELEASE_INTERVAL, Tick("release"))
        ctx.after(Retention.interval(self.settings), Tick("retention"))
        if self._verifier is not None:
            for owner in ("sync", "gateway"):
                ctx.tell(owner, TellPeers())
            self._verify_later(ctx)
            ctx.after(VERIFY_AFTER_START, Tick("verify-first"))

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.oplog is not None:
            changed = self.settings.verify_interval != message.oplog.verify_interval
            self.settings = message.oplog
            if changed:
                self._verify_later(ctx)

    def _room(self) -> int | None:
        free = None if self._disk is None else self._disk.free_bytes()
        return None if free is None else free - self.settings.hard_floor

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "release":
            self._release(ctx)
        elif message.what == "retention":
            ctx.after(Retention.interval(self.settings), message)
            if self._log is not None:
                self._retention.look(self._log, self.settings, ctx)
        elif self._verifier is None:
            return
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
        ctx.tell("store", ReleaseHeld())
        self._snapshots.tend(ctx)
        idle = self._log is not None and not self._log.held()
        self._release_in = RELEASE_INTERVAL_IDLE if idle else RELEASE_INTERVAL

    def on_pruned(self, message: Pruned, ctx: Context) -> None:
        if self._log is not None:
            self._retention.on_pruned(message, self._log, self.settings, ctx)
            self._compaction.go_on(self._retention, ctx)

    def on_collected(self, message: Collected, ctx: Context) -> None:
        if self._log is not None:
            self._retention.on_collected(message, self._log, ctx)
            self._compaction.go_on(self._retention, ctx)

    def on_compact(self, message: Compact, ctx: Context) -> None:
        self._compaction.ask(ctx.asker)
        if self._log is not None:
            self._retention.look(self._log, self.settings, ctx)
        self._compaction.go_on(self._retention, ctx)

    def on_file_compacted(self, message: FileCompacted, ctx: Context) -> None:
        self._compaction.done(message, ctx)

    def on_entries_received(self, message: EntriesReceived, ctx: Context) -> None:
        stage = self._stage(message)
        ready, recorded, fault = self._take(stage, message)
        self._verified += len(ready)
        ctx.tell(
            "store",
            Apply(
                message.owner,
                message.session,
                message.round,
                message.batch,
                tuple(ready),
                message.cloud,
                message.supplied,
                fault,
                tuple(index for index, only in enumerate(recorded) if only),
                "" if self._verifier is None else self._verifier.name_of(message.session),
                message.authors,
            ),
        )

    def on_session_ended(self, message: SessionEnded, ctx: Context) -> None:
        self._stages = {name: stage for name, stage in self._stages.items() if not message.covers(name)}
        self._snapshots.ended(message)
        if self._verifier is not None:
            self._verifier.ended(message, ctx)
        ctx.tell("store", message)

    # --- verification ------------------------------------------------------------------------------

    def on_verify_peer(self, message: VerifyPeer, ctx: Context) -> None:
        if self._verifier is not None:
            self._verifier.peer(message, ctx)

    def on_verify_heard(self, message: VerifyHeard, ctx: Context) -> None:
        if self._verifier is not None:
            self._verifier.heard(message, ctx)

    def on_repaired(self, message: Repaired, ctx: Context) -> None:
        if self._verifier is not None:
            self._verifier.repaired(message, ctx)

    def on_snapshot_installed(self, message: SnapshotInstalled, ctx: Context) -> None:
        self._snapshots.on_snapshot_installed(message, ctx)
        if self._verifier is not None and not message.refused:
            ctx.log(INFO, "verification begins: a snapshot was merged")
            self._verifier.wish(ctx)

    def on_verify(self, message: Verify, ctx: Context) -> None:
        """Somebody wants to know; answered with the runs that begin."""
        if self._verifier is None:
            refuse(ctx, EntglError("this actor has no documents to verify", code=ErrorCode.UNSUPPORTED))
            return
        try:
            runs = self._verifier.begin(message.peer, ctx, fresh=True, repair=message.repair)
        except EntglError as fault:
            refuse(ctx, fault)
            return
        ctx.answer(ctx.asker, Report({"runs": runs}))

    # --- looking and stopping ------------------------------------------------------------------------

    def on_status(self, message: Status, ctx: Context) -> None:
        staged = sum(len(stage.entries) for stage in self._stages.values())
        body: dict[str, Json] = {"verified": self._verified, "staged": staged, "counts": dict(self.counts)}
        if self._log is not None:
            heads = {origin: [seq, head.hex()] for origin, (seq, head) in self._log.vector().items()}
            body |= {"vector": heads, "lsn": self._log.last_lsn(), "origin": self._log.origin}
            body |= self._retention.status(self._log, self.settings, ctx)
        if self._verifier is not None:
            body["verify"] = {"interval": self.settings.verify_interval, **self._verifier.status()}
            body["alarms"] = self._verifier.alarms()
        ctx.answer(ctx.asker, Report(body | self._snapshots.status()))

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        ctx.answer(ctx.asker, Stopped(self.name))

    def _stage(self, message: EntriesReceived) -> Stage:
        """The stage that holds the rest of this session's round; an older round's rest is worth nothing."""
        if message.supplied:
            return Stage(0)
        stage = self._stages.get(message.session)
        if stage is None or stage.round != message.round:
            stage = self._stages[message.session] = Stage(message.round)
        return stage

    def _take(self, stage: Stage, message: EntriesReceived) -> tuple[list[Entry], list[bool], str]:
        """Verify entry by entry; give out all up to the last whole group, and the fault that stopped it."""
        ready: list[Entry] = []
        recorded: list[bool] = []
        marked = set(message.recorded)
        for index, entry in enumerate(message.entries):
            try:
                header = self._verify(entry, stage)
            except EntglError:
                self.count(Reason.BAD_ENTRY)
                stage.clear()  # the store takes nothing more of this round
                return ready, recorded, Reason.BAD_ENTRY.value
            stage.entries.append(entry)
            stage.recorded.append(index in marked)
            stage.bytes += len(entry.header) + len(entry.body or b"")
            if message.supplied or header.group_index + 1 == header.group_size:
                ready += stage.entries
                recorded += stage.recorded
                stage.clear()
        return ready, recorded, ""

    def _verify(self, entry: Entry, stage: Stage) -> headers.Header:
        header = headers.decode(entry.header)
        # whether it is a document is the store's to say, which sets it aside alone where it is none
        if not headers.body_matches(header, entry.body):
            raise ProtocolError(f"the body of {header.version} is not the one its origin wrote")
        if len(stage.entries) >= GROUP_ENTRIES_MAX or stage.bytes > STAGED_BYTES_MAX:
            raise EntglError(
                f"a group that does not end after {len(stage.entries)} entries, {stage.bytes} bytes"
            )
        return header
