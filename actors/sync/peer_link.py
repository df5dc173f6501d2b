"""One link of the SyncActor: from LinkUp over Hello to its session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from entgldb.actors import silence
from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Links, LogReader, TokenChecker
from entgldb.actors.session.members import Gossip
from entgldb.actors.session.session import NO_STATUS, Partner, Session
from entgldb.actors.session.sessions import Sessions
from entgldb.messages import wire
from entgldb.messages.errors import InvalidError, Reason
from entgldb.messages.limits import ANNOUNCED_MAX, NAME_CHARS_MAX
from entgldb.messages.local.actors import LinkUp
from entgldb.messages.model import check_node_id, node_of
from entgldb.messages.remote_peers import is_address
from entgldb.messages.schema import Json
from entgldb.messages.settings import SyncSettings

HELLO_TIMEOUT = 8.0
"""Seconds from an open link to the end of both Hellos."""
TOKEN_GRACE = 5.0
"""Seconds after ``exp`` at which the cloud closes a link that brought no new token."""

CREDENTIAL_SECONDS = 0.5
"""Seconds for which a cloud link may bring one new token in the long run: each check costs time."""
CREDENTIALS_AT_ONCE_MAX = 10
"""A cloud link may bring so many new tokens at once."""

UNJUDGED = frozenset({Reason.AUTHORITY_UNREACHABLE.value, Reason.AUTHORITY_ERROR.value})
"""Said of a token when the authority's keys cannot be had: nothing is known against it."""


def introduce(peer: PeerLink, peers: Iterable[PeerLink], links: Links) -> None:
    """Tell a peer where others can be dialled whom it may not know, so that one seed is enough to meet all.

    At once when it has come, and at each heartbeat. By then it has mostly said whom it is linked with, and
    needs to be told of nobody.
    """
    near = frozenset[str]() if peer.session is None else peer.session.near
    told = {
        other.node_id: addresses
        for other in peers
        if other is not peer and other.node_id not in near
        # a port on this side of a router is none on the other
        if (addresses := other.announced or other.hints[:1])
        if peer.met.get(other.node_id) != addresses
    }
    peer.met |= told
    # a frame has one address of each
    for number in range(max(map(len, told.values()), default=0)):
        row = {name: addresses[number] for name, addresses in told.items() if number < len(addresses)}
        links.send(peer.link, wire.PeersKnown(row))


class PeerLink:
    """A link, and what this node knows of its other end."""

    def __init__(self, up: LinkUp, now: float) -> None:
        self.link = up.link
        self.inbound = up.inbound
        self.address = up.address
        self.certified = up.node_id
        """Node id of the TLS certificate; empty on a cloud link."""
        self.key_shown = up.key
        """Of that certificate; empty where the link does not tell."""
        self.under = up.under
        """The key of the cluster under which the link was made; empty where it does not tell."""
        self.since = now
        self.hello: wire.Hello | None = None
        self.said: wire.Hello | None = None
        """Our own."""
        self.followed = wire.CasFollowed(b"", ())
        """The CAs that it was told of."""
        self.times_told = 0
        """How often it has told of CAs itself."""
        self.session: Session | None = None
        self.met: dict[str, tuple[str, ...]] = {}
        """Node id -> addresses, of the others that it was told of."""
        self.node_id = up.node_id
        self.key = up.node_id
        self.closing = False
        self.told_synced = False
        self.clock_offset_ms = 0
        self.ticket = 0
        self.client_id = ""
        self.epoch = 0
        self.expires_at = 0.0
        self._paid_until = 0.0
        self._token = ""
        self._put_off = False

    @property
    def announced(self) -> tuple[str, ...]:
        """Where others reach it, in its own words."""
        return () if self.hello is None else self.hello.announced

    @property
    def hints(self) -> tuple[str, ...]:
        """Where this node may reach the peer, the best first; empty where it does not listen."""
        if not self.inbound:
            return (self.address, *self.announced)
        host, port = self.address.rpartition(":")[0], self.hello.listen_port if self.hello is not None else 0
        return (*self.announced, f"{host}:{port}") if host and port else self.announced

    @property
    def dial_address(self) -> str:
        """The address at which the peer can be dialled again; empty where it does not listen."""
        return next(iter(self.hints), "")

    @property
    def ca_keys(self) -> set[bytes]:
        """The keys of all CAs that it has said its cluster has had."""
        said = self.hello
        return (
            set() if said is None or not said.ca_key else {said.ca_key, *(key for key, _ in said.successors)}
        )

    def judge(self, hello: wire.Hello, settings: SyncSettings) -> Reason | None:
        """Why this Hello is not acceptable, or None."""
        if hello.protocol_min > wire.PROTOCOL_MAX or hello.protocol_max < wire.PROTOCOL_MIN:
            return Reason.WRONG_PROTOCOL
        try:
            check_node_id(hello.node_id)
        except InvalidError:
            return Reason.MALFORMED
        if node_of(hello.origin) != hello.node_id or len(hello.cluster) > NAME_CHARS_MAX:
            return Reason.MALFORMED
        if len(hello.announced) > ANNOUNCED_MAX or not all(map(is_address, hello.announced)):
            return Reason.MALFORMED
        if settings.role == "cloud":
            return Reason.WRONG_NODE if hello.node_id == settings.node_id else None
        if hello.cluster != settings.cluster:
            return Reason.WRONG_CLUSTER
        if hello.node_id != self.certified or hello.node_id == settings.node_id:
            return Reason.WRONG_NODE
        return None

    def accept(self, hello: wire.Hello, ctx: Context) -> None:
        """Take over what the Hello says."""
        self.hello = hello
        self.node_id = hello.node_id
        # Several clusters may use the same node ids with one cloud: the link tells them apart there.
        self.key = hello.node_id if self.certified else f"{hello.node_id}#{self.link}"
        self.epoch = hello.epoch
        self.clock_offset_ms = hello.clock_ms - ctx.now_ms()

    def may_bring_token(self, now: float) -> bool:
        """Whether one more token is taken now. Generic cell rate algorithm (ITU-T I.371)."""
        self._paid_until = max(self._paid_until, now) + CREDENTIAL_SECONDS
        return self._paid_until - now <= CREDENTIALS_AT_ONCE_MAX * CREDENTIAL_SECONDS

    def bring(self, token: str, checker: TokenChecker | None) -> None:
        """Have a token judged; TokenChecked with the present ticket follows."""
        self.ticket += 1
        self._token, self._put_off = token, False
        if checker is not None:
            checker.check(self.link, self.ticket, token)

    def greet(self, hello: wire.Hello, links: Links, life: int, settings: SyncSettings) -> None:
        """Say ``hello``, with what this side wants to be known by."""
        features = (*hello.features, wire.SHARED) if settings.shared else hello.features
        self.said = replace(
            hello,
            features=features,
            listen_port=links.port(),
            life=life,
            announced=settings.announce,
        )
        links.send(self.link, self.said)

    def put_off(self, reason: str) -> bool:
        """Whether the verdict can wait: there were no keys to judge by, and an accepted token still lives."""
        self._put_off = self.session is not None and reason in UNJUDGED
        return self._put_off

    def bring_again(self, checker: TokenChecker | None) -> None:
        """At each heartbeat: a token that could not be judged is tried again until the accepted one ends."""
        if self._put_off:
            self.bring(self._token, checker)

    def beats(self, rival: PeerLink, me: str) -> bool:
        """Whether this link stays: the smaller id's dial, and of two by the same dialler the newer."""
        if self.inbound == rival.inbound:
            return True
        dialled_by = self.node_id if self.inbound else me
        return dialled_by == min(self.node_id, me)

    def overdue(self, ctx: Context, log: LogReader, *, in_cloud: bool) -> tuple[Reason, str] | None:
        """Why this link has to be closed now, with a text for the peer; or None."""
        if self.said is not None and self.said.origin != log.origin:
            return Reason.REINCARNATED, "the name that was said on it is not that of this node any more"
        if self.session is None:
            late = ctx.monotonic() - self.since > HELLO_TIMEOUT
            return (Reason.HANDSHAKE_TIMEOUT, f"no session in {HELLO_TIMEOUT:.0f} s") if late else None
        if in_cloud and ctx.now_ms() / 1000 > self.expires_at + TOKEN_GRACE:
            return Reason.TOKEN_EXPIRED, "no new token has come"
        return self.session.overdue(ctx)

    def open_session(
        self, sessions: Sessions, gossip: Gossip, links: Links, settings: SyncSettings
    ) -> Session:
        """Both sides have said Hello, and in the cloud role the token was accepted."""
        patience = silence.patience(settings.heartbeat_interval, self.hello)
        begins = settings.role != "cloud" and settings.node_id < self.node_id
        self.session = sessions.open(
            Partner(self.node_id, begins, patience),
            gossip,
            lambda message: links.send(self.link, message),
            lambda: links.flow(self.link),
        )
        return self.session

    def compare_now(self, ctx: Context, claim: wire.Claim | None) -> None:
        """Send a heartbeat with our vector at once."""
        if self.session is not None:
            self.session.beat_now(ctx, claim)

    def read_clock(self, ctx: Context) -> None:
        """Take the offset of the peer's clock from its heartbeats, once there are enough, and no longer from
        its Hello."""
        offset = None if self.session is None else self.session.clock.offset_ms(ctx)
        if offset is not None:
            self.clock_offset_ms = offset

    def status(self, ctx: Context) -> dict[str, Json]:
        """One row of ``sync`` status."""
        row: dict[str, Json] = {
            "node_id": self.node_id,
            "address": self.address,
            "state": "closing" if self.closing else "connected",
            "since": ctx.now_ms() - int((ctx.monotonic() - self.since) * 1000),
            **(NO_STATUS if self.session is None else self.session.status(ctx)),
            "synced": self.session is not None and self.session.synced,
            "frames_until_synced": None if self.session is None else self.session.frames_until_synced,
            "clock_offset_ms": self.clock_offset_ms,
        }
        if self.client_id:
            row |= {"client_id": self.client_id, "epoch": self.epoch, "token_expires": self.expires_at}
        return row
