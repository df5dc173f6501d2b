"""The sessions that SyncActor or CloudGatewayActor owns, and what the other actors say to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from entgldb.actors.behaviour import ERROR, Context
from entgldb.actors.figures import Propagations
from entgldb.actors.line import Flow
from entgldb.actors.ports import LogReader, SnapshotChunks
from entgldb.actors.session.members import Gossip
from entgldb.actors.session.session import Partner, Session, Vouch
from entgldb.actors.session.writers import Writers
from entgldb.messages import codec, wire
from entgldb.messages.errors import Reason, UnknownMessage
from entgldb.messages.limits import FRAME_BYTES_MAX
from entgldb.messages.local.actors import Applied, Committed, Seen, Tick
from entgldb.messages.local.snapshots import SnapshotFrozen, SnapshotInstalled, SnapshotStaged
from entgldb.messages.local.verification import TellPeers, VerifySay
from entgldb.messages.model import Vector
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.settings import GatewaySettings, SyncSettings

PUMP_SECONDS: Final = 0.02
"""Between looks at what waits for a line, or for others who feed its peer."""
LATE_SECONDS: Final = 0.001
"""A timer may be early by a rounding."""


class Sessions:
    """A part of its owner. Iterating gives the sessions that run now."""

    def __init__(
        self,
        owner: str,
        settings: SyncSettings | GatewaySettings,
        log: LogReader,
        writers: Writers,
        chunks: SnapshotChunks,
        count: Callable[[Reason], None],
        *,
        cloud: bool,
    ) -> None:
        self._owner, self._settings, self._cloud = owner, settings, cloud
        self._log, self._writers, self._chunks, self._count = log, writers, chunks, count
        self._running: dict[str, Session] = {}
        self._serial = 0
        self._propagations = Propagations()
        self._gained: Vector = {}
        self._pump_at = math.inf

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def number_from(self, first: int) -> None:
        """Names must differ from those of a life before a restart, which the store may still know."""
        self._serial = first

    def hello(self, ctx: Context) -> wire.Hello:
        """The first message of this node on a link, but for what only some links say."""
        settings = self._settings
        return wire.Hello(
            wire.PROTOCOL_MIN,
            wire.PROTOCOL_MAX,
            settings.node_id,
            self._log.origin,
            "" if settings.role == "cloud" else settings.cluster,
            wire.FEATURES,
            ctx.now_ms(),
            settings.role,
            beat_ms=int(1000 * settings.heartbeat_interval),
        )

    def open(
        self,
        partner: Partner,
        gossip: Gossip,
        send: Callable[[Message], bool],
        flow: Callable[[], Flow],
        vouch: Vouch = tuple,
    ) -> Session:
        """A session with ``partner`` that its owner is to start."""
        self._serial += 1
        session = self._running[f"{self._owner}:{self._serial}"] = Session(
            name=f"{self._owner}:{self._serial}",
            owner=self._owner,
            log=self._log,
            writers=self._writers,
            send=send,
            flow=flow,
            cloud=self._cloud,
            live_push=self._settings.live_push,
            sync_interval=self._settings.sync_interval,
            count=self._count,
            gossip=gossip,
            partner=partner,
            chunks=self._chunks,
            vouch=vouch,
            propagation=self._propagations.of(partner.node_id),
        )
        if self._settings.role == "cloud":
            # two gateways that it serves do not reach each other: nobody else brings the entries
            session.outbox.relay_delay = 0.0
        return session

    def end(self, session: Session, ctx: Context) -> None:
        """Its link is gone."""
        self._running.pop(session.name, None)
        session.end(ctx)

    def decode(
        self, payload: bytes, session: Session | None, ctx: Context, bytes_max: int = FRAME_BYTES_MAX
    ) -> Message | None:
        """The frame that has come; None for a piece of one and for an unknown one. Raises ProtocolError."""
        try:
            decoded = codec.decode(payload, Channel.PEER, bytes_max)
            if isinstance(decoded.message, wire.Part) and session is not None:
                whole = session.whole(decoded.message, ctx)
                if whole is None:
                    return None
                decoded = codec.decode(whole, Channel.PEER)
        except UnknownMessage:
            self._count(Reason.UNKNOWN_MESSAGE)
            return None
        if decoded.trailing:
            self._count(Reason.TRAILING_FIELD)
        return decoded.message

    def each(self, act: Callable[[Session], object], ctx: Context) -> None:
        """Let every session act. One that fails harms no other: its link is closed at the next heartbeat."""
        for session in self:
            try:
                act(session)
            except Exception as fault:  # noqa: BLE001 -- a bug met by one session must not silence the others
                session.failed = True
                self._count(Reason.HANDLER_FAILED)
                ctx.log(ERROR, f"session {session.name} failed: {type(fault).__name__} {fault}")

    def configure(self, settings: SyncSettings | GatewaySettings) -> None:
        """A configuration read again."""
        self._settings = settings
        for session in self:
            session.reconfigure(live_push=settings.live_push, sync_interval=settings.sync_interval)

    def beat(self, claim: wire.Claim | None, ctx: Context) -> None:
        """A heartbeat to every peer."""
        self.each(lambda session: session.beat(ctx, claim), ctx)

    def flush(self, ctx: Context) -> None:
        """One small vector change to everybody for all that was applied in this wake-up."""
        if self._gained:
            gained, self._gained = self._gained, {}
            self.each(lambda session: session.gained(gained), ctx)
        wait = min((session.due_in(ctx) for session in self), default=math.inf)
        at = ctx.monotonic() + max(PUMP_SECONDS, wait + LATE_SECONDS)
        if at < self._pump_at - LATE_SECONDS:
            self._pump_at = at
            ctx.after(at - ctx.monotonic(), Tick("pump"))

    def pump(self, ctx: Context) -> None:
        """The owner's tick of that name: what waited for its time or for the line may go."""
        if ctx.monotonic() < self._pump_at - LATE_SECONDS:
            return  # an earlier one took its place
        self._pump_at = math.inf
        self.each(lambda session: session.tick(ctx), ctx)

    def alarms(self, ctx: Context) -> list[Json]:
        """Of sessions that make no progress."""
        return [one for session in self for one in session.alarms(ctx)]

    # --- what other actors say ------------------------------------------------------------------

    def on_committed(self, message: Committed, ctx: Context) -> None:
        first, last, own_last = message.first, message.last, message.own_last
        self.each(lambda session: session.committed(first, last, own_last, ctx), ctx)
        if self._running:
            ctx.tell("store", Seen(self._owner, message.last))

    def on_applied(self, message: Applied, ctx: Context) -> None:
        self._gained.update(message.changes)
        if message.session in self._running:
            self._running[message.session].applied(message, ctx)

    def on_tell_peers(self, message: TellPeers, ctx: Context) -> None:
        self.each(lambda session: session.introduce(ctx), ctx)

    def on_verify_say(self, message: VerifySay, ctx: Context) -> None:
        self.each(lambda session: session.say(message), ctx)

    def on_snapshot_frozen(self, message: SnapshotFrozen, ctx: Context) -> None:
        if message.session in self._running:
            self._running[message.session].snapshots.giving.frozen(message, ctx)

    def on_snapshot_staged(self, message: SnapshotStaged, ctx: Context) -> None:
        if message.session in self._running:
            self._running[message.session].snapshots.taking.staged(message, ctx)

    def on_snapshot_installed(self, message: SnapshotInstalled, ctx: Context) -> None:
        self._gained.update(message.changes)
        self.each(lambda session: session.installed(message, ctx), ctx)
