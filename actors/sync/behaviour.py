"""SyncActor: LAN links. Whom to dial, who may speak, which of two links stays, who is alive.

In the cloud role the same actor serves the token-checked listener. The session (``session.py``) holds the
dialogue on an open link; the wire (``links.py``) moves the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import INFO, Behaviour, Context
from entgldb.actors.ports import Links, LogReader, SnapshotChunks, TokenChecker, Witness
from entgldb.actors.session.claims import Carried
from entgldb.actors.session.members import Gossip
from entgldb.actors.session.sessions import Sessions
from entgldb.actors.session.writers import Writers
from entgldb.actors.sync.cut_off import CutOff
from entgldb.actors.sync.dialler import Dialler
from entgldb.actors.sync.duplicates import Duplicates
from entgldb.actors.sync.machine import Machine
from entgldb.actors.sync.members.admittance import Admittance
from entgldb.actors.sync.members.cas import Cas
from entgldb.actors.sync.members.membership import Membership
from entgldb.actors.sync.peer_link import PeerLink, introduce
from entgldb.actors.sync.spreading import SPREAD, Spreading
from entgldb.actors.sync.strangers import Strangers, served
from entgldb.actors.sync.traffic import Traffic
from entgldb.messages import codec, wire
from entgldb.messages.client import Done, Isolate, Report, Status, SyncNow
from entgldb.messages.errors import ProtocolError, Reason, known_reason
from entgldb.messages.local.actors import (
    Applied,
    ClaimHeard,
    ClaimToSend,
    ClusterPinned,
    Configure,
    FrameIn,
    FromPeer,
    KnownPeers,
    LinkDown,
    LinkUp,
    PeerDown,
    PeerFound,
    PeerUp,
    PinCluster,
    RememberPeer,
    StaticPeers,
    StopNow,
    Stopped,
    Tick,
    TokenChecked,
    ToPeer,
)
from entgldb.messages.local.members import NodesChanged
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.settings import SyncSettings

ELECTION_FRAMES = (wire.Election, wire.Alive, wire.Coordinator, wire.Standing)


class Sync(Behaviour):
    """Owns the links of this node to other nodes, and their sessions."""

    name = "sync"

    def __init__(
        self,
        settings: SyncSettings,
        log: LogReader,
        witness: Witness,
        links: Links,
        checker: TokenChecker | None,
        chunks: SnapshotChunks,
        key: str = "",
        held: Callable[[], str] = str,
    ) -> None:
        """``key``: of the certificate that this node shows to others of the LAN. ``held``: the id of the
        cluster key that counts here."""
        super().__init__()
        self.settings = settings
        self._log = log
        self._links = links
        self._checker = checker
        self._open: dict[int, PeerLink] = {}
        self._peers: dict[str, PeerLink] = {}
        """Node id (in the cloud role: link name) -> the link whose session runs."""
        self._dialler = Dialler(settings.node_id, links, settings.seeds)
        self._traffic, self._machine = Traffic(self._dialler), Machine()
        self._carried = Carried(settings.node_id)
        self._cut = CutOff("cloud" if settings.role == "cloud" else "lan")
        self._life, self._duplicates = 0, Duplicates()
        writers = Writers(settings.node_id, witness, log)
        self.sessions = Sessions("sync", settings, log, writers, chunks, self.count, cloud=self.in_cloud)
        self.membership = Membership(log, settings.cluster, cloud=self.in_cloud)
        self._spreading = Spreading(log, self.membership.members, self.sessions)
        self.parts = (self.sessions, self.membership, self._spreading, self._traffic)
        self.admittance, self._strangers = Admittance(key, held), Strangers()
        self._cas = Cas(log, self.admittance.keys, witness)

    @property
    def in_cloud(self) -> bool:
        return self.settings.role == "cloud"

    def start(self, ctx: Context) -> None:
        self._life = ctx.random.getrandbits(47) + 1
        self._cut.paused = self._cut.kind in self._log.pauses()  # until node tells
        self.sessions.number_from(self._life << 16)
        self.membership.members.load(self._log.members())
        self.admittance.begin(self._log, ctx)
        self._dial(ctx)
        ctx.after(self.settings.heartbeat_interval, Tick("beat"))

    def flush(self, ctx: Context) -> None:
        self.sessions.flush(ctx)
        self._spreading.look(ctx)

    def facts(self) -> dict[str, Json]:
        return {"port": self._links.port()}

    # --- what the node says -------------------------------------------------------------------

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.sync is None:
            return
        self.settings = message.sync
        self._dialler.seeds = message.sync.seeds
        self.sessions.configure(message.sync)
        self._dial(ctx)

    def on_static_peers(self, message: StaticPeers, ctx: Context) -> None:
        self._dialler.static = dict(message.peers)
        self._dial(ctx)

    def on_pauses_changed(self, message: PausesChanged, ctx: Context) -> None:
        if self._cut.pause(message):
            self._cut_changed(ctx)

    def on_known_peers(self, message: KnownPeers, ctx: Context) -> None:
        for node_id, address in message.peers.items():
            self._dialler.found(node_id, address, worked=True)
        self._dial(ctx)

    def on_peer_found(self, message: PeerFound, ctx: Context) -> None:
        self._dialler.found(message.node_id, message.address)
        self._dial(ctx)

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        self.drop_links(Reason.STOPPING, ctx)
        ctx.answer(ctx.asker, Stopped(self.name))

    def on_nodes_changed(self, message: NodesChanged, ctx: Context) -> None:
        """A node that is refused is not spoken to, from now on and on links that are open."""
        self.admittance.learn(message.nodes)
        self._cut_refused(ctx)

    # --- what administrators say ----------------------------------------------------------------

    def on_sync_now(self, message: SyncNow, ctx: Context) -> None:
        self._dialler.forget_backoff()
        self._dial(ctx)
        for peer in self._peers.values():
            peer.compare_now(ctx, self._carried.claim)
        ctx.answer(ctx.asker, Done())

    def on_isolate(self, message: Isolate, ctx: Context) -> None:
        self._cut.isolate(message.seconds, ctx)
        self._cut_changed(ctx)
        ctx.answer(ctx.asker, Done())

    def on_status(self, message: Status, ctx: Context) -> None:
        report: dict[str, Json] = {
            "peers": [peer.status(ctx) for _, peer in sorted(self._peers.items())],
            "port": self._links.port(),
            **self._cut.report(ctx),
            **self.admittance.report(self._log.origin, ctx),
            "members": self.membership.rows(),
            "now_ms": ctx.now_ms(),
            "counts": dict(self.counts),
            "alarms": self._alarms(ctx),
            **self._traffic.report(self.settings, self._connected() | self.admittance.expelled, ctx),
        }
        if self.in_cloud:
            report["cluster"] = served(self._log, shared=self.settings.shared)
        ctx.answer(ctx.asker, Report(report))

    # --- what other actors say ------------------------------------------------------------------

    def on_applied(self, message: Applied, ctx: Context) -> None:
        self.sessions.on_applied(message, ctx)
        for peer in self._peers.values():
            if peer.session is not None and peer.session.name == message.session:
                self._note_synced(peer, ctx)

    def on_claim_to_send(self, message: ClaimToSend, ctx: Context) -> None:
        self._carried.claim = message.claim
        if message.now:
            self.sessions.beat(self._carried.claim, ctx)

    def on_to_peer(self, message: ToPeer, ctx: Context) -> None:
        frame = codec.decode(message.payload, Channel.PEER).message
        for peer in self._peers.values():
            if message.node_id in ("", peer.key):
                self._links.send(peer.link, frame)

    # --- what the wires say ----------------------------------------------------------------------

    def on_link_up(self, message: LinkUp, ctx: Context) -> None:
        reason, peer = self._cut.reason(ctx), PeerLink(message, ctx.monotonic())
        fault = (reason, "") if reason is not None else self.admittance.fault(peer, ctx)
        if fault is not None:
            self._close(peer, *fault, ctx)
            return
        self._traffic.link_up(inbound=message.inbound)
        self._open[message.link] = peer
        if not message.inbound:
            self._dialler.identified(peer.certified, peer.link)
            self._say_hello(peer, ctx)

    def on_link_down(self, message: LinkDown, ctx: Context) -> None:
        self._dialler.ended(message.link, message.reason, ctx, message.text)
        self.count(known_reason(message.reason))
        self._strangers.down(message, ctx)
        peer = self._open.pop(message.link, None)
        if peer is None:
            self._dial(ctx)
            return
        if peer.session is not None:
            self.sessions.end(peer.session, ctx)
        if self._peers.get(peer.key) is peer:
            del self._peers[peer.key]
            if not self.in_cloud:
                ctx.tell("election", PeerDown(peer.node_id, message.reason))
            if peer.told_synced:
                ctx.tell("node", PeerDown(peer.node_id, message.reason))
        self._dial(ctx)

    def on_frame_in(self, message: FrameIn, ctx: Context) -> None:
        peer = self._open.get(message.link)
        if peer is None or peer.closing:
            return
        try:
            frame = self.sessions.decode(message.payload, peer.session, ctx)
        except ProtocolError as fault:
            self._close(peer, Reason.MALFORMED, fault.text, ctx)
            return
        if frame is None:
            return
        try:
            self._on_frame(peer, frame, ctx)
        except Exception:
            # a peer that sends on a frame that we fail on must not end the links of others with this actor
            self._close(peer, Reason.HANDLER_FAILED, "this node failed on what it heard", ctx)
            raise
        if peer.session is not None and peer.session.fault is not None:
            self._close(peer, *peer.session.fault, ctx)

    def on_token_checked(self, message: TokenChecked, ctx: Context) -> None:
        peer = self._open.get(message.link)
        if peer is None or peer.closing or peer.ticket != message.ticket:
            return
        if message.reason and peer.put_off(message.reason):
            self.count(known_reason(message.reason))
            return
        if message.reason:
            self._strangers.brought(peer.address, message.reason, ctx)
            self._close(peer, known_reason(message.reason), message.text, ctx)
            return
        peer.client_id, peer.expires_at = message.client_id, message.expires_at
        if peer.session is None:
            self._serve(peer, ctx)

    def on_cluster_pinned(self, message: ClusterPinned, ctx: Context) -> None:
        pinned, _ = self._log.pinned_cluster()
        for other in list(self._peers.values()):
            # served until an administrator unpinned its cluster
            served = self.settings.shared or (other.hello is not None and other.hello.cluster == pinned)
            if not served and not other.closing:
                self._refuse(other, ctx)
        peer = self._open.get(message.link)
        if peer is not None and not peer.closing and peer.session is None:
            self._serve(peer, ctx, noted=True)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "dial":
            if self._dialler.is_due(message):
                self._dial(ctx)
        elif message.what == "beat":
            # first, so that a handler that fails does not end the beat for good
            ctx.after(self.settings.heartbeat_interval, Tick("beat"))
            self._beat(ctx)
        elif message.what != SPREAD:
            self.sessions.pump(ctx)

    # --- frames ----------------------------------------------------------------------------------

    def _on_frame(self, peer: PeerLink, frame: Message, ctx: Context) -> None:
        if isinstance(frame, wire.Bye):
            self.admittance.was_told(peer, frame)
            self._close(peer, known_reason(frame.reason), frame.text, ctx)
        elif isinstance(frame, wire.Hello):
            self._on_hello(peer, frame, ctx)
        elif isinstance(frame, wire.Credential) and self.in_cloud and peer.hello is not None:
            self._on_credential(peer, frame, ctx)
        elif peer.session is None or self._peers.get(peer.key) is not peer:
            self.count(Reason.OUT_OF_ORDER)
        elif isinstance(frame, wire.PeersKnown):
            if not self.in_cloud:
                self._dialler.told(frame.peers)
                self._dial(ctx)
        elif isinstance(frame, wire.CasFollowed):
            if not self._cas.hear(peer, frame):
                self._close(peer, Reason.MALFORMED, "more cluster keys than there can be", ctx)
        elif isinstance(frame, ELECTION_FRAMES):
            if not self.in_cloud:
                ctx.tell("election", FromPeer(peer.node_id, codec.encode(frame)))
        else:
            claim = frame.claim if isinstance(frame, wire.Heartbeat) else None
            if claim is not None and not self.in_cloud and self._carried.hear(claim):
                ctx.tell("election", ClaimHeard(peer.node_id, claim, self._carried.differs(claim)))
            peer.session.receive(frame, ctx)
            self._note_synced(peer, ctx)

    def _on_hello(self, peer: PeerLink, said: wire.Hello, ctx: Context) -> None:
        if peer.hello is not None:
            self._close(peer, Reason.MALFORMED, "a second Hello", ctx)
            return
        reason = peer.judge(said, self.settings)
        peer.accept(said, ctx)
        fault = self.admittance.fault(peer, ctx) if reason is None else (reason, f"{said.node_id} said Hello")
        if fault is not None:
            self._close(peer, *fault, ctx)
            return
        if self.in_cloud:
            peer.bring(said.token, self._checker)
            return
        self._cas.hear(peer, wire.CasFollowed(said.ca_key, said.successors))
        if peer.inbound:
            self._say_hello(peer, ctx)
        self._settle(peer, ctx)

    def _on_credential(self, peer: PeerLink, brought: wire.Credential, ctx: Context) -> None:
        if not peer.may_bring_token(ctx.monotonic()):
            self._close(peer, Reason.TOO_MANY_CREDENTIALS, "more tokens than can be checked", ctx)
            return
        peer.epoch = max(peer.epoch, brought.epoch)
        peer.bring(brought.token, self._checker)

    def _serve(self, peer: PeerLink, ctx: Context, *, noted: bool = False) -> None:
        """A client was let in. A cloud node serves one cluster: the first that any client brought.

        ``noted``: the store has looked at what the client says of its cluster.
        """
        assert peer.hello is not None, "a token is judged after Hello"
        hello, (pinned, _), shared = peer.hello, self._log.pinned_cluster(), self.settings.shared
        cluster = hello.cluster
        served = shared or (cluster and cluster == pinned)
        if wire.PROBE in hello.features and (served or (cluster and not pinned)):
            self._say_hello(peer, ctx)  # all that it came for
        elif served and (noted or peer.ca_keys <= self._log.authorities().keys()):
            self._open_session(peer, ctx)
        elif served or (cluster and not pinned):
            said = peer.client_id, hello.ca_key, shared, hello.successors
            ctx.tell("store", PinCluster(peer.link, cluster, *said))
        else:
            self._refuse(peer, ctx)

    def _refuse(self, peer: PeerLink, ctx: Context) -> None:
        assert peer.hello is not None, "it named its cluster"
        self.count(Reason.OTHER_CLUSTER)
        self._strangers.refused(peer.client_id, peer.hello.cluster, ctx)
        self._close(peer, Reason.OTHER_CLUSTER, "this cloud node serves another cluster", ctx)

    def _settle(self, peer: PeerLink, ctx: Context) -> None:
        """Of two links to one node, both sides keep the one dialled by the smaller node id."""
        rival = self._peers.get(peer.key)
        if rival is not None and rival.closing:
            self._replace(rival, ctx)
        elif rival is not None:
            fault = self._duplicates.judge(peer, rival, self.settings.node_id, ctx)
            if fault is not None:
                self._close(peer, fault, "", ctx)
                return
            self._replace(rival, ctx)
        self._open_session(peer, ctx)
        if peer.dial_address:
            ctx.tell("store", RememberPeer(peer.node_id, peer.dial_address))
            # a peer that dialled us may forget us when its sync dies; this end then dials
            for address in peer.hints:
                self._dialler.found(peer.node_id, address)
        if rival is None:
            ctx.log(INFO, f"peer {peer.node_id} is up at {peer.address}")
            ctx.tell("election", PeerUp(peer.node_id))
        introduce(peer, self._peers.values(), self._links)

    def _replace(self, rival: PeerLink, ctx: Context) -> None:
        if rival.session is not None:
            self.sessions.end(rival.session, ctx)
            rival.session = None
        del self._peers[rival.key]
        self._close(rival, Reason.DUPLICATE_LINK, "", ctx)

    def _open_session(self, peer: PeerLink, ctx: Context) -> None:
        if self.in_cloud:
            self._links.admit(peer.link, peer.client_id)
            self._say_hello(peer, ctx)
        cluster = "" if peer.hello is None else peer.hello.cluster
        # the clients of a cloud node need not know of each other
        linked = tuple if self.in_cloud else self._connected
        gossip = Gossip(self.membership.members, cluster=cluster, linked=linked)
        session = peer.open_session(self.sessions, gossip, self._links, self.settings)
        self._peers[peer.key] = peer
        session.start(ctx)
        self._dialler.reached(peer.node_id, peer.link)
        self.admittance.linked(peer.node_id)

    def _say_hello(self, peer: PeerLink, ctx: Context) -> None:
        hello = self._cas.in_hello(peer, self.sessions.hello(ctx))
        peer.greet(hello, self._links, self._life, self.settings)

    # --- time --------------------------------------------------------------------------------------

    def _beat(self, ctx: Context) -> None:
        if self._machine.clock_was_set(ctx):
            # a peer that was refused for the time in a certificate may be accepted now
            self._dialler.forget_backoff()
            self._dial(ctx)
        self.membership.tend(self.settings.sync_interval, ctx)
        self.admittance.look(self._log, ctx)
        self._strangers.tend(ctx)
        for peer in list(self._open.values()):
            fault = peer.overdue(ctx, self._log, in_cloud=self.in_cloud) or self.admittance.fault(peer, ctx)
            if fault is not None:
                self._close(peer, *fault, ctx)
                self._dial(ctx)  # without waiting for the end of the lost link
            elif peer.session is not None and not peer.closing:
                peer.bring_again(self._checker)
                peer.read_clock(ctx)
                if not self.in_cloud:
                    introduce(peer, self._peers.values(), self._links)
        self._cas.tell(self.linked(), self._links)
        self.sessions.beat(self._carried.claim, ctx)
        clocks = None if self.in_cloud else [session.clock for session in self.sessions]
        self._machine.look(clocks, self._links.good_until_ms(), ctx)

    def _note_synced(self, peer: PeerLink, ctx: Context) -> None:
        """The node applies InitialRemotePeers only after it has seen what the cluster already knows."""
        if not peer.told_synced and peer.session is not None and peer.session.synced:
            peer.told_synced = True
            ctx.tell("node", PeerUp(peer.node_id))

    # --- inside ------------------------------------------------------------------------------------

    def _alarms(self, ctx: Context) -> list[Json]:
        found = self._duplicates.report(ctx) + self.sessions.alarms(ctx) + self._machine.report()
        if self.in_cloud:
            return found + self._strangers.report(self._log.pinned_cluster()[0], ctx)
        if self._cut.reason(ctx) is not None:
            return found
        return found + self.membership.alarms(self._connected(), self.admittance, ctx)

    def _dial(self, ctx: Context) -> None:
        if self.in_cloud or self._cut.paused:
            return
        # nobody looks for one that is out
        met = self._connected() | self.admittance.expelled
        self._dialler.tend(met, self._cut.isolated_for(ctx), ctx)

    def linked(self) -> list[PeerLink]:
        return [peer for peer in self._peers.values() if not peer.closing]

    def _connected(self) -> set[str]:
        return {key for key, peer in self._peers.items() if not peer.closing}

    def _cut_changed(self, ctx: Context) -> None:
        reason = self._cut.reason(ctx)
        if reason is not None:
            self.drop_links(reason, ctx)
        self._dialler.forget_backoff()
        self._dial(ctx)

    def _cut_refused(self, ctx: Context) -> None:
        for peer in list(self._open.values()):
            fault = self.admittance.fault(peer, ctx)
            if fault is not None:
                self._close(peer, *fault, ctx)

    def drop_links(self, reason: Reason, ctx: Context, text: str = "") -> None:
        """Close every link, and tell its other side why."""
        for peer in list(self._open.values()):
            self._close(peer, reason, text, ctx)

    def _close(self, peer: PeerLink, reason: Reason, text: str, ctx: Context) -> None:
        if peer.closing:
            return
        peer.closing = True
        self._links.send(peer.link, wire.Bye(reason.value, text))
        self._links.close(peer.link, reason.value, text)
