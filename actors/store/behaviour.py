"""StoreActor: the only writer of the file. Everything that has arrived is one transaction.

Requests and foreign batches queue up in ``handle``; ``flush`` commits them together, each in a
savepoint so that a refused one harms no neighbour, and answers after the commit: group commit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from entgldb.actors.behaviour import DEBUG, ERROR, Asker, Behaviour, Context, refuse, refused
from entgldb.actors.figures import Timings
from entgldb.actors.ports import Disk, Secrets, Store
from entgldb.actors.session import own_log
from entgldb.actors.store import decisions, healing
from entgldb.actors.store import peers as store_peers
from entgldb.actors.store.auditing import auditor
from entgldb.actors.store.auditing.behalf import meant
from entgldb.actors.store.compacting import REST, Compacting, Resting
from entgldb.actors.store.gates.clock_gate import ClockGate, Expiry
from entgldb.actors.store.gates.disk_gate import DiskGate
from entgldb.actors.store.gates.pauses import PAUSE, Pauses
from entgldb.actors.store.indexing import requests as indexes
from entgldb.actors.store.indexing.building import Building
from entgldb.actors.store.intake import Intake
from entgldb.actors.store.members import expulsions, keys, nodes
from entgldb.actors.store.mending import mend
from entgldb.actors.store.notices import Hearers
from entgldb.actors.store.snapshots import Merging
from entgldb.actors.store.tracing import traced
from entgldb.messages import administration, client, codec
from entgldb.messages.administration import Resolve, SetConflict, SetExpiry, Undelete
from entgldb.messages.errors import OF_THE_DISK, EntglError, ErrorCode, InvalidError, NotAllowedError, Reason
from entgldb.messages.local.actors import (
    Apply,
    ApplyInitialPeers,
    BuildIndexes,
    ClusterPinned,
    Committed,
    Configure,
    HideExpired,
    InitialPeersApplied,
    PinCluster,
    ReleaseHeld,
    RememberPeer,
    SessionEnded,
    StopNow,
    Stopped,
    Tick,
)
from entgldb.messages.local.members import (
    Collect,
    Collected,
    CompactFile,
    NoteSelf,
    Prune,
    Pruned,
    RememberMembers,
    SettleSecret,
    TendKey,
)
from entgldb.messages.local.snapshots import InstallSnapshot, MergeOn
from entgldb.messages.local.verification import Repair
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.settings import StoreSettings

Queue = list[tuple[Asker | None, Message]]
Answers = list[tuple[Asker | None, Message]]
CHECKPOINT_INTERVAL = 30.0
"""Seconds between looks at the WAL."""


def always(message: Message) -> bool:
    """Every request of a kind."""
    return True


def never(message: Message) -> bool:
    """No request of a kind."""
    return False


def _puts(message: client.Commit) -> bool:
    return any(write.body is not None or write.update is not None for write in message.writes)


class StoreKeeper(Behaviour):
    """Owns the database; answers clients after their commit."""

    name = "store"

    def __init__(
        self, settings: StoreSettings, store: Store, secrets: Secrets, disk: Disk | None = None
    ) -> None:
        super().__init__()
        self._disk = DiskGate(settings, disk, self.count)
        self._clock, self._expiry = ClockGate(store), Expiry()
        self.settings, self.store, self.secrets = settings, store, secrets
        self._queue: Queue = []
        self.hearers = Hearers()
        self._intake = Intake(store, self.count, secrets.ring)
        self._timings = Timings()
        self.building = Building()
        self._own_last = 0
        self.lost: EntglError | None = None
        """Why the last transaction was not stored, where that is the fault of what it is stored on."""
        self._compacting, self._merging, self._resting = Compacting(), Merging(self.count), Resting()
        self._pauses, self._keys = Pauses(store, settings.role), keys.Keys()
        self._auditor = auditor.Auditor(store)
        self.parts = (self._pauses, self._clock, self.hearers)

    def start(self, ctx: Context) -> None:
        own_log.tell_of_beginning(self.store, ctx)
        self.building.begin_at(self.store, ctx)
        self._tell_system(ctx)
        self._pauses.start(ctx)
        ctx.after(CHECKPOINT_INTERVAL, Tick("checkpoint"))
        self._expiry.look(self.store, ctx)

    def facts(self) -> dict[str, Json]:
        return {"origin": self.store.origin, "known_peers": self.store.remembered_peers()}

    def handle(self, message: Message, ctx: Context) -> None:
        if type(message) in REQUESTS:
            self._queue.append((ctx.asker, message))
        else:
            super().handle(message, ctx)

    def flush(self, ctx: Context) -> None:
        """Commit all that has arrived in one transaction, then answer.

        This node's own upkeep has transactions of its own, each in its turn: it must cost nobody theirs.
        """
        if not self._queue:
            return
        queue, self._queue = self._let_in(self._queue, ctx), []
        if not queue:
            return
        self.store.live(ctx.monotonic(), *self._clock.shown(ctx))
        before, self._own_last = self.store.last_lsn(), 0
        answers: Answers = []
        for upkeep, together in groupby(queue, key=lambda one: REQUESTS[type(one[1])].upkeep):
            run = list(together)
            for part in [[one] for one in run] if upkeep else [run]:
                answers += self._committed(part, ctx)
        last = self.store.last_lsn()
        # the longest way first: a client of this node, the sender of a batch, other nodes, who asked
        if last > before:
            self.hearers.advanced(last)
        self._tell_applied(answers, queue, ctx)
        if last > before:
            self._resting.worked(ctx)
            self.hearers.links.committed(Committed(before + 1, last, self._own_last), ctx)
        self._answer(answers, queue, ctx)
        if self.level <= DEBUG:
            for (_, request), (_, answer) in zip(queue, answers, strict=True):
                ctx.log(DEBUG, traced(request, answer))
        if any(REQUESTS[type(message)].touches_system(message) for _, message in queue):
            self._tell_system(ctx)
        self._expiry.look(self.store, ctx)

    def _committed(self, queue: Queue, ctx: Context) -> Answers:
        """One transaction, and what to answer to each of its requests."""
        ctx.busy("a commit")
        own_last, begun = self._own_last, ctx.monotonic()
        try:
            with self.store.group(ctx.monotonic) as lasted:
                self._look_up(queue)
                answers = [(asker, self._carry_out(message, asker, ctx)) for asker, message in queue]
        except EntglError as fault:
            ctx.log(ERROR, f"a transaction of {len(queue)} requests failed: {fault.text}")
            self.count(_REASONS.get(fault.code.value, Reason.STORE_BUSY), len(queue))
            self._own_last = own_last
            self._auditor.undone()
            if any(isinstance(message, Apply) for _, message in queue):
                self._intake.forget_all()
            self.went("group", well=fault.code is not ErrorCode.INTERNAL)
            self.lost = fault if fault.code in OF_THE_DISK else None
            return [(asker, _failed(message, fault)) for asker, message in queue]
        self.went("group", well=True)
        self.lost = None
        self._timings.committed(len(queue), ctx.monotonic() - begun, lasted.seconds)
        return answers

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.store is not None:
            self.settings = message.store
            self._disk.configure(message.store, ctx)

    def on_relay(self, message: client.Relay, ctx: Context) -> None:
        try:
            inner = codec.decode(message.payload, Channel.CLIENT).message
        except EntglError as fault:
            refuse(ctx, fault)
            return
        if not inner.ADMIN:
            self.count(Reason.NOT_ALLOWED)
            refuse(ctx, NotAllowedError(f"{inner} is no admin message", hint="send it to the store directly"))
        elif message.actor == self.name:
            self.handle(inner, ctx)
        else:
            self._auditor.passed_on(inner, ctx.asker, ctx)
            ctx.forward(message.actor, message.payload)

    def on_behalf(self, message: administration.Behalf, ctx: Context) -> None:
        """A client, such as the HTTP server, asks for somebody whom it has let in."""
        inner = meant(message, ctx)
        if inner is not None:
            self.handle(inner, ctx)

    def on_status(self, message: client.Status, ctx: Context) -> None:
        gates: dict[str, Json] = {
            "disk": self._disk.status(),
            "pauses": self._pauses.report(ctx),
            "clock": self._clock.status(self.store.high_mark_ms(), self.store.known_ms(ctx.now_ms()), ctx),
        }
        told = {**self.store.status(), **gates, **self._timings.report(), "followers": len(self.hearers)}
        ctx.answer(ctx.asker, client.Report({**told, "counts": dict(self.counts)}))

    def on_session_ended(self, message: SessionEnded, ctx: Context) -> None:
        self._intake.forget(message)
        self._disk.forget(message)

    def on_repair(self, message: Repair, ctx: Context) -> None:
        """In a transaction of its own: a mistake in it must cost nobody else theirs."""
        ctx.busy("a repair")
        last = mend(self.store, message, self.count, ctx)
        self.grew(Committed(last, last, 0) if last else None, ctx)

    def on_install_snapshot(self, message: InstallSnapshot, ctx: Context) -> None:
        self.on_merge_on(self._merging.begin(message), ctx)

    def on_merge_on(self, message: MergeOn, ctx: Context) -> None:
        """One step of merging a snapshot, in a transaction of its own, after all that came before it."""
        if (wanted := self._merging.wanted(message)) is None:
            return
        self.flush(ctx)
        ctx.busy("merging a snapshot")
        self._disk.look([(None, wanted)], ctx)
        no_room = self._disk.refusal(wanted)
        grown = self._merging.step(self.store, no_room, ctx, ends=self.settings.role != "cloud")
        self._auditor.merged(ctx)
        self.grew(grown, ctx)

    def grew(self, by: Committed | None, ctx: Context) -> None:
        """Tell whoever has to know of rows that came by no request."""
        if by is not None:
            self.building.ask(ctx)
            self._resting.worked(ctx)
            self.hearers.advanced(by.last)
            self.hearers.links.committed(by, ctx)
            self._tell_system(ctx)
            self._expiry.look(self.store, ctx)

    def on_compact_file(self, message: CompactFile, ctx: Context) -> None:
        ctx.busy("compacting the file")
        self._compacting.step(message, self.store, ctx)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "committed":
            self.hearers.links.tick(ctx)
        elif message.what == PAUSE:
            self._pauses.tick(message, ctx)
        elif message.what == REST:
            self._resting.tick(self.store, ctx)
        elif message.what == "expire":
            if self._expiry.is_due(message):
                self.handle(HideExpired(), ctx)
        else:
            # first, so that a look that fails is not the last
            ctx.after(CHECKPOINT_INTERVAL, Tick("checkpoint"))
            ctx.busy("a checkpoint")
            self.store.checkpoint()
            self._auditor.tend(ctx)
            self.building.ask_again(ctx)
            self._merging.look(ctx)

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        self.flush(ctx)
        ctx.busy("closing the file")
        self.store.close()
        ctx.answer(ctx.asker, Stopped(self.name))

    def _let_in(self, queue: Queue, ctx: Context) -> Queue:
        """Turn away, before any transaction, what disk or clock do not allow now; the rest."""
        self._disk.look(queue, ctx)
        let_in: Queue = []
        for asker, message in queue:
            request = REQUESTS[type(message)]
            fault = self._disk.refusal(message) if request.grows(message) else None
            fault = fault or (self._clock.refusal(ctx) if request.own_write else None)
            if fault is None:
                let_in.append((asker, message))
            else:
                self._turn_away(asker, message, fault, ctx)
        return let_in

    def _turn_away(self, asker: Asker | None, message: Message, fault: EntglError, ctx: Context) -> None:
        try:
            known = self._known(message, ctx)
        except EntglError as unknown:
            known = refused(unknown)
        if known is None:
            self.count(Reason(fault.code.value))
        if not isinstance(message, Apply):
            ctx.answer(asker, known or refused(fault))
        elif not message.supplied:
            ctx.tell(message.owner, Intake.failed(message, fault.code.value))

    def _known(self, message: Message, ctx: Context) -> Message | None:
        """The answer that a repeated request has had. Raises as ``Store.answered``."""
        request = getattr(message, "request", None) if REQUESTS[type(message)].once else None
        known = None if request is None else self.store.answered(request, getattr(message, "writes", ()))
        return None if known is None else client.CommitDone(*known)

    def _look_up(self, queue: Queue) -> None:
        """Many look-ups at once cost less than one by each request."""
        if len(queue) > 1:
            commits = [message for _, message in queue if isinstance(message, client.Commit)]
            self.store.look_up([(one.collection, one.key) for commit in commits for one in commit.writes])

    def _carry_out(self, message: Message, asker: Asker | None, ctx: Context) -> Message:
        """One request or batch in its own savepoint; what to answer."""
        try:
            request = REQUESTS[type(message)]
            with self.store.savepoint(lazily=request.lazily):
                known = self._known(message, ctx)
                done = known or request.handler(self, message, ctx)
                if known is None:
                    self._auditor.done(message, done, asker, ctx)
        except EntglError as fault:
            if fault.code in OF_THE_DISK:
                raise
            self.went(type(message), well=fault.code is not ErrorCode.INTERNAL)
            self.count(_REASONS.get(fault.code.value, Reason.INVALID))
            self._auditor.refused(message, asker, fault, ctx)
            return _failed(message, fault)
        except Exception as fault:  # noqa: BLE001 -- a bug met by one request must not cost the others theirs
            self.count(Reason.HANDLER_FAILED)
            self.went(type(message), well=False)
            ctx.log(ERROR, f"{message} was undone: {type(fault).__name__} {fault}")
            return _failed(message, EntglError(f"the store failed on {message}; its log tells why"))
        self.went(type(message), well=True)
        return done

    def commit(self, message: client.Commit, ctx: Context) -> Message:
        return self.write(message.request, message.writes, ctx)

    def apply(self, message: Apply, ctx: Context) -> Message:
        forks = self.counts[Reason.FORK]
        known = self._auditor.known(message)
        applied = self._intake.take(message, ctx)
        self._auditor.took(message, known, applied, self.counts, ctx)
        if auditor.holds_system(message):
            expulsions.say_again(self, ctx)
        own_log.after_applying(self.store, ctx)
        if self.counts[Reason.FORK] > forks:
            healing.tend(self, ctx)  # a branch that parts earlier is gone back on at once
        return applied

    def release(self, message: ReleaseHeld, ctx: Context) -> Message:
        for reason, times in self.store.release_held(ctx.now_ms()).counts.items():
            self.count(Reason(reason), times)
        healing.tend(self, ctx)
        return client.Done()

    def hide_expired(self, message: HideExpired, ctx: Context) -> Message:
        self._expiry.looked(self.store.expire(self._clock.shown(ctx).believed_ms))
        return client.Done()

    def write(
        self,
        request: client.RequestId,
        writes: tuple[client.Write, ...],
        ctx: Context,
        *,
        system: bool = False,
    ) -> Message:
        return self.wrote(*self.store.write(request, writes, ctx.now_ms(), system=system))

    def wrote(self, written: tuple[client.Written, ...], lsn: int) -> Message:
        self._own_last = max(self._own_last, lsn)
        self._timings.written += len(written)
        return client.CommitDone(written, lsn)

    def _answer(self, answers: Answers, queue: list[tuple[Asker | None, Message]], ctx: Context) -> None:
        for (asker, answer), (_, message) in zip(answers, queue, strict=True):
            if asker is not None and REQUESTS[type(message)].answers:
                ctx.answer(asker, answer)

    def _tell_applied(self, answers: Answers, queue: Queue, ctx: Context) -> None:
        for (_, answer), (_, message) in zip(answers, queue, strict=True):
            if isinstance(message, Apply) and not message.supplied:
                ctx.tell(message.owner, answer)
            elif isinstance(answer, (Pruned, Collected)):
                ctx.tell("oplog", answer)
            elif isinstance(answer, InitialPeersApplied):
                ctx.tell("node", answer)
            elif isinstance(answer, ClusterPinned):
                ctx.tell("sync", answer)

    def _tell_system(self, ctx: Context) -> None:
        self.building.look(self.store, ctx)
        self._keys.look(self, ctx)
        self.hearers.system(self.store, ctx)


class Request(NamedTuple):
    """One kind of message that a group commit carries out, and all that the store decides by its kind."""

    handler: Callable[[StoreKeeper, Any, Context], Message]
    answers: bool = False
    """Whether somebody waits for the answer."""
    touches_system: Callable[[Any], bool] = never
    """Whether documents that the node actor is told of may be others afterwards."""
    grows: Callable[[Any], bool] = never
    """Whether it makes the file grow: refused below the hard floor of the disk."""
    own_write: bool = False
    """Whether it is stamped by our clock at somebody's wish: refused while the clock is off."""
    once: bool = False
    """Whether one that is repeated has the answer it had."""
    upkeep: bool = False
    """Whether this node's own actors ask for it, on nobody's behalf: it has a transaction of its own."""
    lazily: bool = False
    """Whether it only writes: its rows may wait for those of the next request."""


REQUESTS: dict[type[Message], Request] = {
    client.Commit: Request(StoreKeeper.commit, True, grows=_puts, own_write=True, once=True, lazily=True),
    client.CreateIndex: Request(indexes.create_index, True, grows=always, own_write=True, once=True),
    client.DropIndex: Request(indexes.drop_index, True, own_write=True, once=True),
    client.RebuildIndex: Request(indexes.rebuild_index, True, grows=always),
    BuildIndexes: Request(indexes.build, grows=always, upkeep=True),
    client.PutPeer: Request(store_peers.put_peer, True, always, grows=always, own_write=True, once=True),
    client.RemovePeer: Request(store_peers.remove_peer, True, always, own_write=True, once=True),
    client.SettleUnfit: Request(decisions.settle_unfit, True, always),
    client.ReleaseOrigin: Request(decisions.release_origin, True, always),
    Resolve: Request(decisions.settle_conflict, True, always, own_write=True, once=True),
    Undelete: Request(decisions.settle_conflict, True, own_write=True, once=True),
    SetConflict: Request(decisions.settle_conflict, True, own_write=True, once=True),
    SetExpiry: Request(decisions.settle_conflict, True, own_write=True, once=True),
    ApplyInitialPeers: Request(
        store_peers.initial_peers, touches_system=always, grows=always, own_write=True, upkeep=True
    ),
    Apply: Request(StoreKeeper.apply, touches_system=auditor.holds_system, grows=always),
    administration.HealOrigin: Request(healing.heal_origin, True, always, own_write=True, once=True),
    administration.ResetClock: Request(decisions.reset_clock, True, always, own_write=True),
    ReleaseHeld: Request(StoreKeeper.release, touches_system=always, upkeep=True),
    HideExpired: Request(StoreKeeper.hide_expired, upkeep=True),
    RememberPeer: Request(nodes.remember_peer, upkeep=True),
    PinCluster: Request(nodes.pin_cluster, upkeep=True),
    administration.UnpinCluster: Request(nodes.unpin_cluster, True),
    NoteSelf: Request(expulsions.note_self, touches_system=always, upkeep=True),
    administration.RetireNode: Request(nodes.retire_node, True, always, own_write=True, once=True),
    administration.ExpelNode: Request(expulsions.expel_node, True, always, own_write=True, once=True),
    administration.RotateSecret: Request(
        store_peers.rotate_secret, True, always, grows=always, own_write=True, once=True
    ),
    SettleSecret: Request(store_peers.settle_secret, touches_system=always, own_write=True, upkeep=True),
    administration.RotateKey: Request(keys.rotate_key, True, always, own_write=True, once=True),
    TendKey: Request(keys.tend_key, touches_system=always, own_write=True, upkeep=True),
    administration.AcceptKey: Request(nodes.accept_key, True, always, own_write=True, once=True),
    RememberMembers: Request(nodes.remember_members, upkeep=True),
    Prune: Request(lambda keeper, order, ctx: keeper.store.prune(order), upkeep=True),
    Collect: Request(
        lambda keeper, order, ctx: keeper.store.collect(order.frontier, order.after_lsn), upkeep=True
    ),
    administration.Audited: Request(auditor.told, True),
    administration.Happened: Request(auditor.told),
}
_TOLD_AS_THEY_ARE = ("disk-full", "disk-error", "not-allowed", "too-large", "unknown-outcome")
_REASONS = {one: Reason(one) for one in (*_TOLD_AS_THEY_ARE, "already-exists", "version-mismatch")}


def _failed(message: Message, fault: EntglError) -> Message:
    if isinstance(message, Apply):
        return Intake.failed(message)
    return refused(fault if isinstance(fault, EntglError) else InvalidError(str(fault)))
