"""What SyncActor owns, and what the node and administrators tell it: whom to dial, whom to let in."""

from __future__ import annotations

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import Context
from entgldb.actors.clock_watch import ClockWatch, Steps
from entgldb.actors.dialler import Dialler
from entgldb.actors.duplicates import Duplicates
from entgldb.actors.members import Members, Unheard, shown
from entgldb.actors.nodes import read_documents, removed_clouds, retired_origins
from entgldb.actors.peer_link import PeerLink
from entgldb.actors.ports import Links, OplogReader, SnapshotChunks, TokenChecker
from entgldb.actors.session import Session
from entgldb.actors.snapshot_routing import SnapshotRouting
from entgldb.messages import wire
from entgldb.messages.client import Done, Isolate, Ping, Report, Status, SyncNow
from entgldb.messages.errors import Reason
from entgldb.messages.local import (
    Configure,
    KnownPeers,
    PeerFound,
    StaticPeers,
    StopNow,
    Stopped,
    Tick,
)
from entgldb.messages.members import MembersHeard, NodesChanged, RememberMembers
from entgldb.messages.model import REMOTE_PEERS, Origin, Vector
from entgldb.messages.schema import Json
from entgldb.messages.settings import SyncSettings


class LinkOwner(SnapshotRouting):
    """The links of a node, apart from what is said on them."""

    name = "sync"

    def __init__(
        self,
        settings: SyncSettings,
        log: OplogReader,
        links: Links,
        checker: TokenChecker | None,
        chunks: SnapshotChunks | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._chunks = chunks
        self._log = log
        self._links = links
        self._checker = checker
        self._open: dict[int, PeerLink] = {}
        self._peers: dict[str, PeerLink] = {}
        """Node id (in the cloud role: link name) -> the link whose session runs."""
        self._dialler = Dialler(settings.node_id, links, settings.seeds)
        self._claim: wire.Claim | None = None
        self._gained: Vector = {}
        self._isolated_until = 0.0
        self._pumping = False
        self._looks = 0
        self._serial = self._life = 0
        self._duplicates = Duplicates()
        self._clocks, self._steps = ClockWatch(), Steps()
        self._unheard = Unheard()
        self.members = Members(cloud=settings.role == "cloud")
        self.retired: frozenset[Origin] = frozenset()
        """Incarnations that are refused."""
        self._strangers = Alarms()
        self._told_retired = False
        """A peer has refused this very incarnation."""

    @property
    def in_cloud(self) -> bool:
        return self.settings.role == "cloud"

    def sessions(self) -> list[Session]:
        return [peer.session for peer in self._peers.values() if peer.session is not None]

    def start(self, ctx: Context) -> None:
        # Names must differ from those of a life before a restart, which the store may still know.
        self._life = ctx.random.getrandbits(47) + 1
        self._serial = self._life << 16
        self.members.load(self._log.members())
        self._dial(ctx)
        ctx.after(self.settings.heartbeat_interval, Tick("beat"))

    def facts(self) -> dict[str, Json]:
        return {"port": self._links.port()}

    # --- what the node says -------------------------------------------------------------------

    def on_configure(self, message: Configure, ctx: Context) -> None:
        if message.sync is None:
            return
        self.settings = message.sync
        self._dialler.seeds = message.sync.seeds
        for session in self.sessions():
            session.reconfigure(live_push=message.sync.live_push, sync_interval=message.sync.sync_interval)
        self._dial(ctx)

    def on_static_peers(self, message: StaticPeers, ctx: Context) -> None:
        self._dialler.static = dict(message.peers)
        self._dial(ctx)

    def on_known_peers(self, message: KnownPeers, ctx: Context) -> None:
        for node_id, address in message.peers.items():
            self._dialler.found(node_id, address, worked=True)
        self._dial(ctx)

    def on_peer_found(self, message: PeerFound, ctx: Context) -> None:
        self._dialler.found(message.node_id, message.address)
        self._dial(ctx)

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        self._drop_all(Reason.STOPPING, ctx)
        ctx.answer(ctx.asker, Stopped(self.name))

    # --- members ------------------------------------------------------------------------------------

    def on_nodes_changed(self, message: NodesChanged, ctx: Context) -> None:
        """A retired incarnation is not spoken to, from now on and on links that are open."""
        self.retired = retired_origins(message.nodes)
        for peer in list(self._open.values()):
            if peer.hello is not None and peer.hello.origin in self.retired and not self.in_cloud:
                self._close(peer, Reason.RETIRED, f"{peer.node_id} was retired", ctx)

    def on_members_heard(self, message: MembersHeard, ctx: Context) -> None:
        for row in message.rows:
            self.members.take(row, ctx.now_ms())

    def note_farewell(self, peer: PeerLink, said: wire.Bye) -> None:
        """A member of the cluster closes the link; it may tell us that we were retired."""
        retired = bool(peer.certified) and said.reason == Reason.RETIRED.value
        self._told_retired = self._told_retired or retired

    def note_stranger(self, client_id: str, cluster: str, ctx: Context) -> None:
        """A client of another cluster was refused."""
        self.count(Reason.OTHER_CLUSTER)
        text = f"client {client_id} of cluster {cluster or '(none)'} was refused: this node serves another"
        self._strangers.sound(Reason.OTHER_CLUSTER.value, client_id, text, ctx.now_ms())

    def tend_members(self, ctx: Context) -> None:
        """At each heartbeat: our own row, and what the file should know."""
        interval = self.settings.sync_interval
        self.members.look(self._log, interval, ctx)
        self._unheard.look(self.members.rows, ctx)
        rows = self.members.changed(interval, ctx)
        if rows:
            ctx.tell("store", RememberMembers(rows))

    # --- what administrators say ----------------------------------------------------------------

    def on_ping(self, message: Ping, ctx: Context) -> None:
        ctx.answer(ctx.asker, Done())

    def on_sync_now(self, message: SyncNow, ctx: Context) -> None:
        self._dialler.forget_backoff()
        self._dial(ctx)
        for peer in self._peers.values():
            peer.compare_now(ctx, self._claim)
        ctx.answer(ctx.asker, Done())

    def on_isolate(self, message: Isolate, ctx: Context) -> None:
        self._isolated_until = ctx.monotonic() + max(0.0, message.seconds)
        if message.seconds > 0:
            self._drop_all(Reason.ISOLATED, ctx)
        self._dialler.forget_backoff()
        self._dial(ctx)
        ctx.answer(ctx.asker, Done())

    def on_status(self, message: Status, ctx: Context) -> None:
        report: dict[str, Json] = {
            "peers": [peer.status(ctx) for _, peer in sorted(self._peers.items())],
            "port": self._links.port(),
            "isolated": self._isolated(ctx),
            "retired": self._told_retired or self._log.origin in self.retired,
            "members": self._members_shown(),
            "counts": dict(self.counts),
            "alarms": self._alarms(ctx),
        }
        if self.in_cloud:
            cluster, client_id = self._log.pinned_cluster()
            report["cluster"] = {"id": cluster, "client_id": client_id, "shared": self.settings.shared}
        ctx.answer(ctx.asker, Report(report))

    def _alarms(self, ctx: Context) -> list[Json]:
        found = self._duplicates.report(ctx) + self.stalls(ctx) + self._strangers.report()
        if self.in_cloud or self._isolated(ctx):
            return found
        clouds = {document.get("NodeId") for document in read_documents(self._log, REMOTE_PEERS)}
        clouds |= removed_clouds(self._log, self.members.rows)
        expected = {
            name: heard
            for name, heard in self.members.rows.items()
            if name not in clouds and heard.row.origin not in self.retired
        }
        linked = {name for name, peer in self._peers.items() if not peer.closing}
        return found + self._unheard.alarms(expected, {*linked, *self.members.own()}, ctx)

    def _members_shown(self) -> list[Json]:
        """All that belong to the cluster as far as is known; in the cloud role, all that were heard of."""
        rows = self.members.rows
        gone = set() if self.in_cloud else removed_clouds(self._log, rows)
        return [{"name": name, **shown(heard)} for name, heard in sorted(rows.items()) if name not in gone]

    def _dial(self, ctx: Context) -> None:
        if self.in_cloud:
            return
        connected = {key for key, peer in self._peers.items() if not peer.closing}
        wait = self._isolated_until - ctx.monotonic()
        if wait <= 0:
            self._dialler.dial(connected, ctx)
            wait = self._dialler.due_in(connected, ctx)
        self._looks += 1
        ctx.after(wait, Tick("dial", self._looks))

    def _isolated(self, ctx: Context) -> bool:
        return ctx.monotonic() < self._isolated_until

    def _drop_all(self, reason: Reason, ctx: Context) -> None:
        for peer in list(self._open.values()):
            self._close(peer, reason, "", ctx)

    def _close(self, peer: PeerLink, reason: Reason, text: str, ctx: Context) -> None:
        if peer.closing:
            return
        peer.closing = True
        self._links.send(peer.link, wire.Bye(reason.value, text))
        self._links.close(peer.link, reason.value, text)
