"""The dialogue of two nodes once both have said Hello: pure, one object a link.

    Vectors -> Entries within a credit window -> Ack after commit -> live pushes; Heartbeats throughout

The receiver asks for a new *round* whenever something is missing or out of order; frames of earlier
rounds are ignored. Every push may be lost: the vector that rides along every sync interval shows it.
The same session serves the LAN, the gateway and the cloud role.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from entgldb.actors import silence
from entgldb.actors.behaviour import Context
from entgldb.actors.figures import Propagation
from entgldb.actors.line import Flow, Line, Parts, Pulse
from entgldb.actors.ports import LogReader, SnapshotChunks
from entgldb.actors.session import own_log
from entgldb.actors.session.clock_watch import PeerClock
from entgldb.actors.session.inbox import Inbox
from entgldb.actors.session.members import Gossip
from entgldb.actors.session.outbox import Outbox
from entgldb.actors.session.progress import Hearing, Progress, Telling
from entgldb.actors.session.snapshot_giving import FRAMES as SNAPSHOT_FRAMES
from entgldb.actors.session.snapshot_giving import SnapshotExchange
from entgldb.actors.session.snapshot_taking import Ends
from entgldb.actors.session.writers import Writers
from entgldb.messages import codec, wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import BATCH_BYTES_MAX, ORIGINS_MAX, WINDOW_BATCHES_MAX
from entgldb.messages.local.actors import Applied, Apply, Seen, SessionEnded
from entgldb.messages.local.members import MembersHeard
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.local.verification import VerifyHeard, VerifyPeer, VerifySay
from entgldb.messages.model import Author, Entry, Origin, Vector
from entgldb.messages.schema import Channel, Json, Message
from entgldb.storage.rules import vector as vectors

FIRST_WORD = 5.0
"""Seconds more for the first byte after both Hellos: ours has to reach the peer before it says anything."""
WANT_MAX = 200
"""Recorded entries asked for in one go."""
NEAR_TOLD_MAX = 64
"""Nodes that one row of the status has its peer linked with."""


NO_STATUS: dict[str, Json] = {
    **dict.fromkeys(("behind_in", "behind_out", "seconds_in", "seconds_out", "snapshot", "propagation")),
    "behind_snapshot": False,
    "near": None,
}
"""The status of a link without a session: its lag is unknown, never 0."""


Vouch = Callable[[Iterable[Author]], tuple[Author, ...]]

_NOTHING: Final = (0, b"")
"""The head of a log of which there is nothing."""


class Partner(NamedTuple):
    """The node at the other end of a session."""

    node_id: str = ""
    begins: bool = False
    """This side begins the comparisons of documents that come by themselves."""
    patience: float = silence.SECONDS_MIN
    """Seconds without a byte after which it counts as down."""
    max_rate: int = 0
    """Bytes a second at most that it is sent; 0: no limit."""


class Session:
    """One replication session. ``send`` gives False when the link is gone."""

    failed = False
    """Its owner failed in it: the link is to be closed."""

    def __init__(
        self,
        *,
        name: str,
        owner: str,
        log: LogReader,
        writers: Writers,
        chunks: SnapshotChunks,
        send: Callable[[Message], bool],
        flow: Callable[[], Flow] | None = None,
        cloud: bool,
        live_push: bool = True,
        sync_interval: float = 2.0,
        count: Callable[[Reason], None] = lambda reason: None,
        gossip: Gossip | None = None,
        partner: Partner | None = None,
        vouch: Vouch = tuple,
        propagation: Propagation | None = None,
    ) -> None:
        self._propagation = propagation or Propagation()
        self.name, self._owner, self._cloud = name, owner, cloud
        self._partner = partner or Partner()
        self.peer, self.patience = self._partner.node_id, self._partner.patience
        self._log, self._count, self._gossip = log, count, gossip
        self._writers, self._vouch = writers, vouch
        """Our own word on the authors that the peer names."""
        self._sync_interval, self._told_at = sync_interval, 0.0
        self.line = Line(send, flow, self._partner.max_rate)
        self._send, self._parts, self._pulse = self.line.send, Parts(), Pulse(self.line)
        self.inbox = Inbox(log, self.line, count, self._propagation)
        self.outbox = Outbox(log, self.line, self._propagation, cloud=cloud, live_push=live_push, count=count)
        ends = Ends(name, owner, self._partner.node_id, cloud)
        self.snapshots = SnapshotExchange(ends, log, self.line, chunks, count)
        self.progress, self.clock = Progress(log), PeerClock()
        self._gains: Vector = {}
        """Heads that we have gained and not told the peer yet."""
        self._theirs: Vector | None = None
        self._agreed: Vector = {}
        """Heads of theirs that are entries of our logs."""
        self._telling, self._hearing = Telling(), Hearing()
        self.outdated = False
        """A branch of some log was taken out here: both sides' knowledge of each other is void."""
        self.synced = False
        """Once everything the peer had at the start has arrived."""
        self.frames_until_synced = 0
        """Frames of the peer taken until then: so many round trips at most."""
        self.fault: tuple[Reason, str] | None = None
        """The peer takes more than it may have: its link is to be closed, with this text."""
        self._wanted: tuple[str, int] = ("", 0)
        """The last recorded entry asked for: the next look begins behind it."""

    def reconfigure(self, *, live_push: bool, sync_interval: float) -> None:
        """New settings of a node that reads its configuration again."""
        self.outbox.live_push, self._sync_interval = live_push, sync_interval

    def start(self, ctx: Context) -> None:
        """Both Hellos are through: say what we have."""
        self._told_at = ctx.monotonic()
        self.inbox.moved(ctx)
        self._pulse.start(ctx.monotonic() + FIRST_WORD)
        vector, held = self._log.vector(), self._log.wants_no_more()
        self._telling.tell(vector, held)
        self._send(wire.Vectors(vector, held))
        ctx.tell("store", Seen(self._owner, self._log.last_lsn()))
        self.introduce(ctx)

    def receive(self, message: Message, ctx: Context) -> None:
        """Take one decoded frame of the peer; none any more once there is a ``fault``."""
        if self.fault is not None:
            return
        self._pulse.felt(ctx.monotonic())
        self.line.look(ctx.monotonic())
        self.progress.touch(message.TAG, ctx)
        if not self.synced:
            self.frames_until_synced += 1
        match message:
            case wire.Entries():
                self._on_entries(message, ctx)
            case wire.Ack():
                self.outbox.acknowledged(message.round, message.batch, ctx)
            case wire.Vectors():
                self._hearing.take(1, message.vector, message.held)
                self._learn(message.vector)
                self._compare_logs(message.vector)
                if self.outbox.round == 0 and self.outbox.peer is None:
                    self.outbox.quiet = self.snapshots.giving.look(message.vector, message.held, ctx)
                    self.outbox.begin(0, message.vector, message.held, ctx)
            case wire.GapRequest():
                if message.round > self.outbox.round:
                    self.outbox.quiet = self.snapshots.giving.look(message.vector, message.held, ctx)
                    self.outbox.begin(message.round, message.vector, message.held, ctx)
            case wire.VectorChange():
                self._learn(message.changes)
                self.outbox.learn(message.changes, ctx)
            case wire.Heartbeat():
                self._on_heartbeat(message, ctx)
            case wire.Want() | wire.Supply():
                self._on_system(message, ctx)
            case wire.Ranges() | wire.Items() | wire.Copies():
                ctx.tell("oplog", VerifyHeard(self.name, codec.encode(message)))
            case _ if isinstance(message, SNAPSHOT_FRAMES):
                self.snapshots.receive(message, ctx)
            case _:
                self._count(Reason.UNKNOWN_MESSAGE)

    def whole(self, part: wire.Part, ctx: Context) -> bytes | None:
        """A piece of a frame has come: the frame, if it was the last one. Raises ProtocolError."""
        self.progress.moved("in", ctx)
        self.snapshots.taking.touch(ctx)
        return self._parts.join(part)

    def committed(self, first: int, last: int, own_last: int, ctx: Context) -> None:
        """Our log has grown by ``first``..``last``; ``own_last`` is the last entry of our own (0: none)."""
        self.outbox.committed(last, own_last, ctx)

    def applied(self, done: Applied, ctx: Context) -> None:
        """The store is through with a batch of this session."""
        # the sender has the entries: without this every entry would be relayed back to it
        self.outbox.learn(done.changes, ctx, gained=False)
        if self.inbox.applied(done, ctx):
            self._note_synced()

    def installed(self, done: SnapshotInstalled, ctx: Context) -> None:
        """A snapshot was merged, or refused. The peer that gave it goes on from there with its log."""
        if self.snapshots.taking.installed(done) and done.session == self.name and not done.refused:
            self._have_attested(done.changes, ctx)
            self.inbox.gained()
            self.inbox.ask_again(ctx)
        self._note_synced()

    def _have_attested(self, origins: Iterable[Origin], ctx: Context) -> None:
        """A snapshot names its writers by the word that its giver has. Those that are believed here get ours,
        as with entries: a cloud may know no other."""
        authors = self._writers.by_several(origins)
        if authors:
            told = Apply(self._owner, self.name, 0, 0, (), self._cloud, supplied=True, authors=authors)
            ctx.tell("store", told)

    def gained(self, changes: Vector) -> None:
        """Tell the peer, once the line is free, what we have got, so that it does not relay it to us."""
        self._gains.update(changes)
        self._tell_gains()

    def _tell_gains(self) -> None:
        if self._gains and self.line.free:
            gains, self._gains = self._gains, {}
            self._send(wire.VectorChange(gains))

    def beat(self, ctx: Context, claim: wire.Claim | None) -> None:
        """Every heartbeat interval; every sync interval our vector rides along, or its number."""
        self.line.look(ctx.monotonic())
        if self.line.busy:
            self.progress.moved("out", ctx)
        told, vector, held = self._vector_due(ctx)
        self.snapshots.taking.beat(ctx)
        out, gossip = self.outbox, self._gossip
        members = () if gossip is None else gossip.news()
        near = None if gossip is None else gossip.tell_near(members)
        said = claim, vector, held, members, out.acked, told, self._hearing.missed, near
        self._send(wire.Heartbeat(ctx.now_ms(), out.round, out.handed, *said))

    def _vector_due(self, ctx: Context) -> tuple[int, Vector | None, dict[str, int] | None]:
        """The number of our vector (0: it is not time); it and what we hold, where the peer lacks them."""
        since = ctx.monotonic() - self._told_at
        if since < self._sync_interval - 0.01:
            return 0, None, None
        vector, held = self._log.vector(), self._log.wants_no_more(self._theirs or ())
        is_new = self._telling.is_new(vector, held)
        if is_new and since < self.line.vector_wait(len(vector)):
            return 0, None, None
        self._told_at = ctx.monotonic()
        self.outdated = self.outdated or own_log.went_back(self._telling.vector, vector)
        self._ask_for_recorded()
        out = self.outbox
        self.progress.look(vector, self._their_seqs(), out.peer, out.held, self._partner.node_id, ctx)
        if not is_new:
            return self._telling.number, None, None
        self._telling.tell(vector, held)
        return self._telling.number, vector, held

    def beat_now(self, ctx: Context, claim: wire.Claim | None) -> None:
        """A heartbeat with our vector, without waiting for the sync interval."""
        self._told_at = -math.inf
        self.beat(ctx, claim)

    def tick(self, ctx: Context) -> None:
        """Again after ``due_in``."""
        self._tell_gains()
        self.line.look(ctx.monotonic())
        self.outbox.pump(ctx)

    def due_in(self, ctx: Context) -> float:
        """Seconds until ``tick`` may have something to do: a relay delay ends, or the line has room."""
        return 0.0 if self.line.busy or self._gains else self.outbox.due_in(ctx.monotonic())

    @property
    def behind_out(self) -> int | None:
        """Operations the peer lacks; None while unknown."""
        return self.outbox.behind()

    @property
    def behind_in(self) -> int | None:
        """Operations we lack of what the peer has said it has; None while unknown."""
        theirs = self._their_seqs()
        return None if theirs is None else vectors.lag(vectors.seqs(self._log.vector()), theirs)

    @property
    def near(self) -> frozenset[str]:
        """The node ids that the other end has said it is linked with."""
        return frozenset() if self._gossip is None else self._gossip.near

    def peer_has(self, asked: Mapping[str, int]) -> bool:
        """Whether the peer has said that it has committed all this (origin -> seq), as it is here."""
        theirs = self._theirs or {}
        covered = all(seq <= theirs.get(origin, _NOTHING)[0] for origin, seq in asked.items())
        return covered and not self.doubts(asked)

    @property
    def has_spoken(self) -> bool:
        """Whether the peer has said what it has."""
        return self._theirs is not None

    def doubts(self, asked: Mapping[str, int]) -> bool:
        """Whether the peer has another branch of one of these logs than we: entries of it have the numbers of
        ours. So it is where the peer has more of our own log than we, or we have lost something."""
        theirs, agreed = self._theirs or {}, self._agreed
        for origin in asked.keys() & theirs.keys():
            head = theirs[origin]
            if agreed.get(origin) == head:
                continue
            if not self._log.disputes(origin, *head):
                agreed[origin] = head
            elif origin == self._log.origin or head[0] <= self._log.vector().get(origin, _NOTHING)[0]:
                return True
        return False

    def status(self, ctx: Context) -> dict[str, Json]:
        """How far both are behind, in operations and in seconds, null while unknown; and the snapshot."""
        behind_in, behind_out, progress = self.behind_in, self.behind_out, self.progress
        return {
            "behind_in": behind_in,
            "behind_out": behind_out,
            "seconds_in": progress.seconds_in(self._log.vector(), behind_in, ctx),
            "seconds_out": progress.seconds_out(self.outbox.peer, behind_out, ctx),
            "behind_snapshot": self.outbox.cut_off,
            "snapshot": self.snapshots.status(),
            "propagation": self._propagation.report(),
            "near": None if self._gossip is None else sorted(self._gossip.near)[:NEAR_TOLD_MAX],
        }

    def alarms(self, ctx: Context) -> list[Json]:
        """Whether this session makes no progress."""
        return self.progress.alarms(self._partner.node_id or self.name, ctx)

    def silent_for(self, ctx: Context) -> float:
        """Seconds since the peer was heard, be it a byte of a frame that takes its time."""
        return self._pulse.silence(ctx.monotonic())

    def overdue(self, ctx: Context) -> tuple[Reason, str] | None:
        """Why its link has to be closed now, with a text for the peer; or None."""
        if self.failed:
            return Reason.HANDLER_FAILED, "this node failed on what it heard"
        if self.outdated:
            return Reason.HEALED, "a branch of a log was taken out"
        if self.silent_for(ctx) > self.patience:
            return Reason.HEARTBEAT_LOST, f"silent for more than {self.patience:.0f} s"
        return None

    def introduce(self, ctx: Context) -> None:
        """Introduce the peer to oplog, which verifies with it."""
        node_id, begins = self._partner.node_id, self._partner.begins
        ctx.tell("oplog", VerifyPeer(self._owner, self.name, node_id, self._cloud, begins))

    def say(self, message: VerifySay) -> None:
        """Oplog verifies with the peer of this session."""
        if message.session == self.name:
            self._send(codec.decode(message.payload, Channel.PEER).message)

    def end(self, ctx: Context) -> None:
        """The link is gone: let the others forget."""
        for keeper in ("oplog", "store"):
            ctx.tell(keeper, SessionEnded(self.name))

    def _on_entries(self, message: wire.Entries, ctx: Context) -> None:
        unheard = self.outbox.peer is None and self._log.floors()
        if self.outbox.cut_off or self.outbox.quiet or unheard:
            # it may have missed deletes of which nothing is left here, and write on as if they had not been
            self._count(Reason.BEHIND_SNAPSHOT)
        elif self.inbox.admits(message, ctx):
            if self.inbox.flooded:
                self.fault = Reason.WINDOW_FULL, "it sends on and on, whatever is acknowledged"
            self._hand_on(message, ctx)

    def _hand_on(self, batch: wire.Entries, ctx: Context) -> None:
        """Tell the store what is proven now; of a batch of which nothing is, the number alone."""
        authors = self._vouch(batch.authors)
        ready = self.inbox.stage.take(batch.entries, batch.recorded, authors, self._writers, ctx, self._count)
        ctx.tell(
            "store",
            Apply(
                self._owner,
                self.name,
                batch.round,
                batch.batch,
                ready.entries,
                self._cloud,
                fault=ready.fault,
                recorded=ready.recorded,
                peer=self._partner.node_id,
                authors=ready.authors,
            ),
        )

    def _on_heartbeat(self, message: wire.Heartbeat, ctx: Context) -> None:
        self.clock.said(message.clock_ms, ctx)
        self.inbox.watch(message, ctx, excused=self.outbox.cut_off or self.outbox.quiet)
        news = [] if self._gossip is None else self._gossip.heard(message.members, ctx.now_ms())
        if news and self._owner == "gateway":
            ctx.tell("sync", MembersHeard(tuple(news)))
        if self._gossip is not None and message.near is not None:
            self._gossip.heard_near(message.near)
        self._telling.again = self._telling.again or message.again
        if message.told and self._hearing.take(message.told, message.vector, message.held):
            vector, held = self._hearing.known
            self._learn(vector)
            self._compare_logs(vector)
            self.inbox.acknowledge_again(message)
            self.outbox.quiet = self.snapshots.giving.look(vector, held, ctx)
            self.outbox.compare(vector, held, ctx)
            self._note_synced()

    def _ask_for_recorded(self) -> None:
        if self._cloud:
            return
        ids = self._log.unapplied(WANT_MAX, self._wanted) or self._log.unapplied(WANT_MAX)
        if ids and self.line.free:
            self._wanted = ids[-1]
            self._send(wire.Want(tuple(ids)))
        lacking, theirs = self._log.lacking(), self._their_seqs()
        if lacking is None or theirs is None or not self.line.free:
            return
        # of a peer that has come as far: what it has of the configuration is all that we lack
        if all(theirs.get(origin, 0) >= seq for origin, seq in lacking.items()):
            self._send(wire.Want(((self._log.origin, 0),)))

    def _on_system(self, message: wire.Want | wire.Supply, ctx: Context) -> None:
        """Only LAN peers give or get what configures the cluster; a cloud gives proofs of a fork of ours."""
        if isinstance(message, wire.Want):
            self.snapshots.giving.asked_for(message.ids[:WANT_MAX], ctx)
            found = self._log.entries(message.ids[:WANT_MAX])
            authors = own_log.authors_of(self._log, sorted({origin for origin, _ in message.ids[:WANT_MAX]}))
            batches = _batches(own_log.for_cloud(found) if self._cloud else found)
            for batch in batches[:WINDOW_BATCHES_MAX]:
                self._send(wire.Supply(batch, authors))
            if len(batches) > WINDOW_BATCHES_MAX:
                self._count(Reason.WINDOW_FULL)  # it asks for the rest again
        else:
            entries = own_log.of_own(message.entries, self._log.origin) if self._cloud else message.entries
            if len(entries) < len(message.entries):
                self._count(Reason.NOT_ALLOWED)
            if entries:
                proven = self._writers.supplied(entries, self._vouch(message.authors))
                ctx.tell("store", Apply(self._owner, self.name, 0, 0, proven, self._cloud, supplied=True))

    def _compare_logs(self, vector: Vector) -> None:
        proofs = own_log.forked(self._log, vector)
        if self._cloud:
            proofs = [place for place in proofs if place[0] == self._log.origin]
        if proofs:
            self._send(wire.Want(tuple(proofs[:WANT_MAX])))

    def _learn(self, vector: Vector) -> None:
        if self._theirs is None:
            self._theirs = {}
        for origin, head in vector.items():
            if head[0] >= self._theirs.get(origin, head)[0]:
                self._theirs[origin] = head
        if len(self._theirs) > ORIGINS_MAX:
            self.fault = Reason.MALFORMED, f"it says that it has {len(self._theirs)} origins"
        self._note_synced()

    def _their_seqs(self) -> dict[str, int] | None:
        return None if self._theirs is None else vectors.seqs(self._theirs)

    def _note_synced(self) -> None:
        theirs = None if self.synced else self._their_seqs()
        if theirs is not None:
            self.synced = not self.progress.lacks(theirs)


def _batches(entries: list[Entry]) -> list[tuple[Entry, ...]]:
    """Cut into frames of bounded size, each with at least one entry."""
    batches: list[list[Entry]] = []
    size = BATCH_BYTES_MAX
    for entry in entries:
        cost = entry.size
        if size + cost > BATCH_BYTES_MAX:
            batches.append([])
            size = 0
        batches[-1].append(entry)
        size += cost
    return [tuple(batch) for batch in batches]
