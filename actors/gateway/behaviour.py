"""CloudGatewayActor: compares the cloud links that should be with those that are, and acts on the difference.

Only the elected gateway has links. Every Reconfigure states the whole wish; a link that differs is opened,
closed or dialled anew, what does not is left alone. One bad peer harms no other.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import Asker, Behaviour, Context, refuse
from entgldb.actors.gateway.cloud_link import CloudLink, Means
from entgldb.actors.ports import (
    CloudTarget,
    ClusterCa,
    Links,
    LogReader,
    Prober,
    Secrets,
    SnapshotChunks,
    TokenSource,
    Witness,
)
from entgldb.actors.session.members import Members
from entgldb.actors.session.reach import Reach
from entgldb.actors.session.session import NO_STATUS
from entgldb.actors.session.sessions import Sessions
from entgldb.actors.session.writers import Writers
from entgldb.messages.client import Report, Status, TestPeer
from entgldb.messages.errors import InvalidError, NotFoundError, Reason
from entgldb.messages.limits import CLOUDS_TOLD_MAX
from entgldb.messages.local.actors import (
    Configure,
    Fitness,
    FrameIn,
    LinkDown,
    LinkUp,
    ProbeDone,
    ProveReach,
    Reconfigure,
    StopNow,
    Stopped,
    Tick,
    TokenFailed,
    TokenIssued,
)
from entgldb.messages.local.members import SettleSecret
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.remote_peers import PeerType, RemotePeer, read_peer
from entgldb.messages.schema import Json
from entgldb.messages.settings import GatewaySettings

FITNESS_SECONDS: Final = 5.0
"""How often this node looks which secrets it can resolve."""


class Gateway(Behaviour):
    """Owns the cloud links of this node."""

    name = "gateway"

    def __init__(
        self,
        settings: GatewaySettings,
        log: LogReader,
        witness: Witness,
        links: Links,
        tokens: TokenSource,
        secrets: Secrets,
        prober: Prober,
        chunks: SnapshotChunks,
        ca: ClusterCa | None = None,
    ) -> None:
        super().__init__()
        self.sessions = Sessions(
            "gateway", settings, log, Writers(settings.node_id, witness, log), chunks, self.count, cloud=True
        )
        self.parts = (self.sessions,)
        members = Members(cloud=False)
        self._means = Means(
            settings, log, links, tokens, secrets, self.count, self._next, members, self.sessions, ca
        )
        self._prober = prober
        self._ca_key = b"" if ca is None else ca.public_key
        """Of the cluster's CA, as the clouds have been told."""
        self._serial = 0
        self._peers: dict[str, RemotePeer] = {}
        """The cloud peers that could be read, enabled or not."""
        self._bad: dict[str, str] = {}
        """Node id -> why its document cannot be read."""
        self._links: dict[str, CloudLink] = {}
        self._leads = False
        self._paused = False
        self._epoch = 0
        self._cause = ""
        self._reconfigured_ms: int | None = None
        self._probes: dict[int, tuple[Asker | None, str]] = {}
        self._reach = Reach()
        self._told = Fitness(0)
        self._alarms = Alarms()
        self._beating = False

    def start(self, ctx: Context) -> None:
        self._serial = ctx.random.getrandbits(40) << 16
        self.sessions.number_from(self._serial)
        if self._means.settings.role != "cloud":
            ctx.after(FITNESS_SECONDS, Tick("fitness"))

    def flush(self, ctx: Context) -> None:
        self.sessions.flush(ctx)
        if self.sessions and not self._beating:
            self._beating = True
            ctx.after(self._means.settings.heartbeat_interval, Tick("beat"))
        told = self._told
        if (self._connected()[:CLOUDS_TOLD_MAX], self._troubles()) != (told.connected, told.troubles):
            self._tell_fitness(ctx)

    # --- what the node says -----------------------------------------------------------------------

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.gateway is None:
            return
        self._means.settings = message.gateway
        self.sessions.configure(message.gateway)

    def on_reconfigure(self, message: Reconfigure, ctx: Context) -> None:
        """Make the open links those that should be."""
        settings = self._means.settings
        self._leads = message.gateway == settings.node_id and settings.role != "cloud"
        self._epoch, self._cause = message.epoch, message.cause
        self._reconfigured_ms = ctx.now_ms()
        self._read(message.peers)
        self._look_at_secrets(ctx)
        self._adjust(ctx)

    def on_pauses_changed(self, message: PausesChanged, ctx: Context) -> None:
        paused = message.holds("cloud") is not None
        if paused != self._paused:
            self._paused = paused
            self._adjust(ctx)

    def _adjust(self, ctx: Context) -> None:
        """Close, keep and open links."""
        for node_id, link in list(self._links.items()):
            reason = self._fault(link)
            if reason is None:
                link.become(self._peers[node_id], ctx)
                link.new_epoch(self._epoch)
            else:
                del self._links[node_id]
                link.close(reason, ctx)
        for node_id, peer in self._peers.items():
            if self._leads and not self._paused and peer.enabled and node_id not in self._links:
                self._links[node_id] = CloudLink(peer, self._means, self._epoch)
                self._links[node_id].begin(ctx)
        self._tell_fitness(ctx)

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        for link in self._links.values():
            link.close(Reason.STOPPING, ctx)
        self._links.clear()
        self._leads = False
        ctx.answer(ctx.asker, Stopped(self.name))

    # --- what administrators say ----------------------------------------------------------------------

    def on_status(self, message: Status, ctx: Context) -> None:
        """``reconfigured`` and ``since`` in milliseconds since 1970. A member shows no links."""
        body = {
            "role": "gateway" if self._leads else "member",
            "epoch": self._epoch,
            "reconfigured": self._reconfigured_ms,
            "cause": self._cause,
            "reach": self._reach.count(ctx.monotonic()),
            "links": self._link_rows(ctx) if self._leads else [],
            "counts": dict(self.counts),
            "alarms": self.sessions.alarms(ctx) + self._token_alarms() + self._alarms.report(),
        }
        ctx.answer(ctx.asker, Report(body))

    def on_test_peer(self, message: TestPeer, ctx: Context) -> None:
        """Answered when the prober is through, on any node, whether or not the peer is enabled."""
        peer = self._peers.get(message.node_id)
        if message.node_id in self._bad:
            refuse(ctx, InvalidError(f"peer {message.node_id}: {self._bad[message.node_id]}"))
        elif peer is None or peer.oauth2 is None:
            fault = NotFoundError(f"no cloud peer {message.node_id:.80}", hint="entgldb list-peers")
            refuse(ctx, fault)
        else:
            self._probe(peer, ctx.asker)

    def on_probe_done(self, message: ProbeDone, ctx: Context) -> None:
        asker, node_id = self._probes.pop(message.ticket, (None, ""))
        ok = bool(message.steps) and all(step.get("ok") is True for step in message.steps)
        self._reach.probed(node_id, ctx.monotonic(), good=ok)
        self._tell_fitness(ctx)
        ctx.answer(asker, Report({"node_id": node_id, "ok": ok, "steps": list(message.steps)}))

    # --- what other actors say --------------------------------------------------------------------------

    def on_prove_reach(self, message: ProveReach, ctx: Context) -> None:
        """Another node leads: whether this one would do better only a probe can say."""
        running = {node_id for asker, node_id in self._probes.values() if asker is None}
        for peer in self._fit():
            due = self._reach.may_probe(peer.node_id, ctx.monotonic())
            if due and not self._leads and peer.node_id not in running:
                self._probe(peer, None)

    # --- what the wires say -----------------------------------------------------------------------------

    def on_token_issued(self, message: TokenIssued, ctx: Context) -> None:
        link = self._links.get(message.node_id)
        if link is not None:
            link.token_issued(message, ctx)

    def on_token_failed(self, message: TokenFailed, ctx: Context) -> None:
        link = self._links.get(message.node_id)
        if link is not None:
            link.token_failed(message, ctx)

    def on_link_up(self, message: LinkUp, ctx: Context) -> None:
        link = self._by_number(message.link)
        if link is not None:
            link.link_up(ctx)

    def on_link_down(self, message: LinkDown, ctx: Context) -> None:
        link = self._by_number(message.link)
        if link is not None:
            link.link_down(message.reason, message.text, ctx)

    def on_frame_in(self, message: FrameIn, ctx: Context) -> None:
        link = self._by_number(message.link)
        if link is None:
            return
        try:
            link.frame(message.payload, ctx)
        except Exception:
            link.failed(ctx)
            raise

    # --- time ---------------------------------------------------------------------------------------------

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "link":
            for link in list(self._links.values()):
                link.timer(message.generation, ctx)
        elif message.what == "beat":
            self._beating = False
            self._means.members.reload(self._means.log, self._means.settings.sync_interval, ctx)
            for link in list(self._links.values()):
                link.look(ctx)
            self.sessions.beat(None, ctx)
        elif message.what == "pump":
            self.sessions.pump(ctx)
        elif message.what == "fitness":
            ctx.after(FITNESS_SECONDS, Tick("fitness"))
            self._look_at_key(ctx)
            self._look_at_secrets(ctx)
            self._tell_fitness(ctx)

    # --- inside -------------------------------------------------------------------------------------------

    def _look_at_key(self, ctx: Context) -> None:
        """A cloud hears of a new key of the cluster by the Hello of a new link."""
        ca = self._means.ca
        key = b"" if ca is None else ca.public_key
        if self._ca_key not in (b"", key):
            for link in self._links.values():
                link.close(Reason.PEER_CHANGED, ctx)
            self._links.clear()
            self._adjust(ctx)
        self._ca_key = key

    def _look_at_secrets(self, ctx: Context) -> None:
        """One that is known outside is an alarm; one whose time is over goes, by the word of the gateway."""
        out = len(self._means.log.expelled())
        for found in self._alarms.report():
            if found["subject"] not in self._peers:
                self._alarms.clear(found["code"], found["subject"])
        for node_id, peer in self._peers.items():
            oauth2 = peer.oauth2
            if oauth2 is not None and oauth2.is_known_outside(out):
                text = f"a node that was expelled knows the client secret of {node_id}"
                text = f"{text}: entgldb rotate-secret {node_id}"
                self._alarms.sound("secret-known", node_id, text, ctx.now_ms())
            else:
                self._alarms.clear("secret-known", node_id)
            if self._leads and oauth2 is not None and oauth2.is_over(ctx.now_ms()):
                ctx.tell("store", SettleSecret(node_id, ""))

    def _read(self, documents: tuple[dict[str, Json], ...]) -> None:
        self._peers, self._bad = {}, {}
        for document in documents:
            try:
                peer = read_peer(document)
            except InvalidError as fault:
                node_id = document.get("NodeId")
                self._bad[node_id if isinstance(node_id, str) else ""] = fault.text
                self.count(Reason.INVALID)
                continue
            if peer.type is PeerType.CLOUD_REMOTE:
                self._peers[peer.node_id] = peer

    def _fault(self, link: CloudLink) -> Reason | None:
        """Why an open link must close, or None."""
        peer = self._peers.get(link.peer.node_id)
        if not self._leads:
            return Reason.NOT_GATEWAY
        if self._paused:
            return Reason.PAUSED
        if peer is None:
            return Reason.PEER_CHANGED if link.peer.node_id in self._bad else Reason.PEER_REMOVED
        if not peer.enabled:
            return Reason.PEER_DISABLED
        if not link.may_become(peer):
            return Reason.PEER_CHANGED
        return None

    def _link_rows(self, ctx: Context) -> list[Json]:
        rows = [link.status(ctx) for link in self._links.values()]
        since = self._reconfigured_ms
        for node_id, peer in self._peers.items():
            if node_id not in self._links:
                reason = Reason.PAUSED if self._paused and peer.enabled else Reason.PEER_DISABLED
                rows.append({**_closed(node_id, peer.address, reason, since), "max_rate": peer.max_rate})
        for node_id in self._bad:
            rows.append(_closed(node_id, "", Reason.INVALID, since))
        return sorted(rows, key=lambda row: str(row["node_id"]))

    def _token_alarms(self) -> list[Json]:
        return [found for link in self._links.values() if (found := link.token_alarm()) is not None]

    def _probe(self, peer: RemotePeer, asker: Asker | None) -> None:
        assert peer.oauth2 is not None, "checked when the peer was read"
        ticket = self._next()
        self._probes[ticket] = (asker, peer.node_id)
        cluster = self._means.settings.cluster
        target = CloudTarget(peer.node_id, peer.address, peer.oauth2.ca_pem, cluster)
        self._prober.probe(ticket, target, peer.oauth2)

    def _fit(self) -> list[RemotePeer]:
        """The enabled peers whose secret this node can resolve; none while their links are paused."""
        if self._paused:
            return []
        secrets = self._means.secrets
        return [
            peer
            for peer in self._peers.values()
            if peer.enabled and peer.oauth2 is not None and secrets.resolvable(peer.node_id, peer.oauth2)
        ]

    def _tell_fitness(self, ctx: Context) -> None:
        """Said again though nothing has changed: an election that was restarted knows nothing."""
        if self._means.settings.role == "cloud":
            return
        fit, connected, now = self._fit(), self._connected(), ctx.monotonic()
        self._reach.look([peer.node_id for peer in fit], connected, now)
        if self._leads:
            self._reach.lost(now)
        count = self._reach.count(now)
        self._told = Fitness(len(fit), connected[:CLOUDS_TOLD_MAX], self._troubles(), count)
        ctx.tell("election", self._told)

    def _connected(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, link in self._links.items() if link.session is not None))

    def _troubles(self) -> tuple[tuple[str, str], ...]:
        """Links that are down, or will be when their token ends."""
        found = sorted((name, link.reason) for name, link in self._links.items() if link.reason)
        return tuple(found)[:CLOUDS_TOLD_MAX]

    def _by_number(self, number: int) -> CloudLink | None:
        """The link whose connection has this number; none for one that was hung up."""
        return next((link for link in self._links.values() if link.link == number > 0), None)

    def _next(self) -> int:
        self._serial += 1
        return self._serial


def _closed(node_id: str, address: str, reason: Reason, since: int | None) -> dict[str, Json]:
    return {
        "node_id": node_id,
        "address": address,
        "state": "disabled",
        "reason": reason.value,
        "since": since,
        **NO_STATUS,
    }
