"""SyncActor: LAN links. Whom to dial, who may speak, which of two links stays, who is alive.

In the cloud role the same actor serves the token-checked listener. What is said on an open link is
the session's business (``session.py``); how bytes move is the wire's (``links.py``).
"""

from __future__ import annotations

from entgldb.actors.behaviour import INFO, WARNING, Context
from entgldb.actors.claims import repeats
from entgldb.actors.peer_link import PeerLink, introduce
from entgldb.actors.sync_base import LinkOwner
from entgldb.messages import codec, wire
from entgldb.messages.errors import ProtocolError, Reason, UnknownMessage, known_reason
from entgldb.messages.local import (
    Applied,
    ClaimHeard,
    ClaimToSend,
    ClusterPinned,
    FrameIn,
    FromPeer,
    LinkDown,
    LinkUp,
    PeerDown,
    PeerUp,
    PinCluster,
    RememberPeer,
    Tick,
    TokenChecked,
    ToPeer,
)
from entgldb.messages.schema import Channel, Message

PUMP_INTERVAL = 0.02
"""Seconds between looks at running relay delays."""
ELECTION_FRAMES = (wire.Election, wire.Alive, wire.Coordinator)


class Sync(LinkOwner):
    """Owns the links of this node to other nodes, and their sessions."""

    def flush(self, ctx: Context) -> None:
        """One small vector change to everybody for all that was applied in this wake-up."""
        if self._gained:
            gained, self._gained = self._gained, {}
            self.each(lambda session: session.gained(gained), ctx)
        self._pump_later(ctx)

    # --- what other actors say ------------------------------------------------------------------

    def on_applied(self, message: Applied, ctx: Context) -> None:
        self._gained.update(message.changes)
        for peer in self._peers.values():
            if peer.session is not None and peer.session.name == message.session:
                peer.session.applied(message, ctx)
                self._note_synced(peer, ctx)

    def on_claim_to_send(self, message: ClaimToSend, ctx: Context) -> None:
        self._claim = message.claim
        if message.now:
            self.each(lambda session: session.beat(ctx, self._claim), ctx)

    def on_to_peer(self, message: ToPeer, ctx: Context) -> None:
        frame = codec.decode(message.payload, Channel.PEER).message
        for peer in self._peers.values():
            if message.node_id in ("", peer.key):
                self._links.send(peer.link, frame)

    # --- what the wires say ----------------------------------------------------------------------

    def on_link_up(self, message: LinkUp, ctx: Context) -> None:
        if self._isolated(ctx):
            self._links.close(message.link, Reason.ISOLATED.value)
            return
        peer = PeerLink(message, ctx.monotonic())
        self._open[message.link] = peer
        if not message.inbound:
            self._dialler.identified(peer.certified, peer.link)
            self._say_hello(peer, ctx)

    def on_link_down(self, message: LinkDown, ctx: Context) -> None:
        self._dialler.ended(message.link, message.reason, ctx)
        self.count(known_reason(message.reason))
        peer = self._open.pop(message.link, None)
        if peer is None:
            self._dial(ctx)
            return
        if peer.session is not None:
            peer.session.end(ctx)
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
            decoded = codec.decode(message.payload, Channel.PEER)
            if isinstance(decoded.message, wire.Part) and peer.session is not None:
                whole = peer.session.whole(decoded.message, ctx)
                if whole is None:
                    return
                decoded = codec.decode(whole, Channel.PEER)
        except UnknownMessage:
            self.count(Reason.UNKNOWN_MESSAGE)
            return
        except ProtocolError as fault:
            self._close(peer, Reason.MALFORMED, fault.text, ctx)
            return
        if decoded.trailing:
            self.count(Reason.TRAILING_FIELD)
        try:
            self._on_frame(peer, decoded.message, ctx)
        except Exception:
            # whoever sends on what we fail on must not end the links of others with this actor
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
            self._close(peer, known_reason(message.reason), message.text, ctx)
            return
        peer.client_id, peer.expires_at = message.client_id, message.expires_at
        if peer.session is None:
            self._serve(peer, ctx)

    def on_cluster_pinned(self, message: ClusterPinned, ctx: Context) -> None:
        peer = self._open.get(message.link)
        if peer is not None and not peer.closing and peer.session is None:
            self._serve(peer, ctx)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "dial":
            if message.generation == self._looks:
                self._dial(ctx)
        elif message.what == "beat":
            # first, so that a handler that fails does not end the beat for good
            ctx.after(self.settings.heartbeat_interval, Tick("beat"))
            self._beat(ctx)
        else:
            self._pumping = False
            self.each(lambda session: session.tick(ctx), ctx)

    # --- frames ----------------------------------------------------------------------------------

    def _on_frame(self, peer: PeerLink, frame: Message, ctx: Context) -> None:
        if isinstance(frame, wire.Bye):
            self.note_farewell(peer, frame)
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
        elif isinstance(frame, ELECTION_FRAMES):
            if not self.in_cloud:
                ctx.tell("election", FromPeer(peer.node_id, codec.encode(frame)))
        else:
            claim = frame.claim if isinstance(frame, wire.Heartbeat) else None
            if claim is not None and self._is_news(claim):
                ctx.tell("election", ClaimHeard(peer.node_id, claim))
            peer.session.receive(frame, ctx)
            self._note_synced(peer, ctx)

    def _is_news(self, claim: wire.Claim) -> bool:
        """Every node repeats the present claim: election knows it, and listens to echoes of its own alone."""
        own = claim.gateway == self.settings.node_id
        return not self.in_cloud and (own or not repeats(claim, self._claim))

    def _on_hello(self, peer: PeerLink, said: wire.Hello, ctx: Context) -> None:
        if peer.hello is not None:
            self._close(peer, Reason.MALFORMED, "a second Hello", ctx)
            return
        fault = peer.judge(said, self.settings, self.retired)
        if fault is not None:
            self._close(peer, fault, f"{said.node_id} said Hello", ctx)
            return
        peer.accept(said, ctx)
        if peer.inbound and not self.in_cloud:
            self._say_hello(peer, ctx)
        if self.in_cloud:
            peer.bring(said.token, self._checker)
        else:
            self._settle(peer, ctx)

    def _on_credential(self, peer: PeerLink, brought: wire.Credential, ctx: Context) -> None:
        if not peer.may_bring_token(ctx.monotonic()):
            self._close(peer, Reason.TOO_MANY_CREDENTIALS, "more tokens than can be checked", ctx)
            return
        peer.epoch = max(peer.epoch, brought.epoch)
        peer.bring(brought.token, self._checker)

    def _serve(self, peer: PeerLink, ctx: Context) -> None:
        """A client was let in. A cloud node serves one cluster: the first that any client brought."""
        assert peer.hello is not None, "a token is judged after Hello"
        cluster, (pinned, _) = peer.hello.cluster, self._log.pinned_cluster()
        served = self.settings.shared or (cluster and cluster == pinned)
        if wire.PROBE in peer.hello.features and (served or (cluster and not pinned)):
            self._say_hello(peer, ctx)  # all that it came for
        elif served:
            self._open_session(peer, ctx)
        elif cluster and not pinned:
            ctx.tell("store", PinCluster(peer.link, cluster, peer.client_id))
        else:
            self.note_stranger(peer.client_id, cluster, ctx)
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
            # whoever dialled us may forget us when its sync dies; this end then dials
            self._dialler.found(peer.node_id, peer.dial_address)
        if rival is None:
            ctx.log(INFO, f"peer {peer.node_id} is up at {peer.address}")
            ctx.tell("election", PeerUp(peer.node_id))
        introduce(peer, self._peers.values(), self._links)

    def _replace(self, rival: PeerLink, ctx: Context) -> None:
        if rival.session is not None:
            rival.session.end(ctx)
            rival.session = None
        del self._peers[rival.key]
        self._close(rival, Reason.DUPLICATE_LINK, "", ctx)

    def _open_session(self, peer: PeerLink, ctx: Context) -> None:
        if self.in_cloud:
            self._links.admit(peer.link)
            self._say_hello(peer, ctx)
        self._serial += 1
        peer.open_session(
            f"sync:{self._serial}",
            self._log,
            self._links,
            self.settings,
            self.count,
            self.members,
            self._chunks,
        )
        self._peers[peer.key] = peer
        assert peer.session is not None
        peer.session.start(ctx)
        self._dialler.reached(peer.node_id, peer.link)

    def _say_hello(self, peer: PeerLink, ctx: Context) -> None:
        peer.say_hello(self.settings, self._log.origin, self._life, self._links, ctx)

    # --- time --------------------------------------------------------------------------------------

    def _beat(self, ctx: Context) -> None:
        step_ms = self._steps.look(ctx)
        if step_ms:
            # what was refused for the time in a certificate may be accepted now
            ctx.log(WARNING, f"the clock of this node was set by {step_ms / 1000:+.0f} s")
            self._dialler.forget_backoff()
            self._dial(ctx)
        self.tend_members(ctx)
        for peer in list(self._open.values()):
            fault = peer.overdue(ctx, self._log, in_cloud=self.in_cloud)
            if fault is not None:
                self._close(peer, fault, "", ctx)
                self._dial(ctx)  # without waiting for the end of the lost link
            elif peer.session is not None and not peer.closing:
                peer.bring_again(self._checker)
                peer.read_clock(ctx)
        self.each(lambda session: session.beat(ctx, self._claim), ctx)
        if not self.in_cloud:
            self._clocks.look([peer.session.clock for peer in self._peers.values() if peer.session], ctx)

    def _pump_later(self, ctx: Context) -> None:
        waiting = any(peer.session is not None and peer.session.busy for peer in self._peers.values())
        if waiting and not self._pumping:
            self._pumping = True
            ctx.after(PUMP_INTERVAL, Tick("pump"))

    def _note_synced(self, peer: PeerLink, ctx: Context) -> None:
        """The node applies InitialRemotePeers only after it has seen what the cluster already knows."""
        if not peer.told_synced and peer.session is not None and peer.session.synced:
            peer.told_synced = True
            ctx.tell("node", PeerUp(peer.node_id))
