"""One cloud link of the gateway: secret, token, dial, Hello, session; and backoff when one of them fails.

    backoff <-> token -> dialling -> hello -> open

Backoff is exponential with jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015) and begins
anew after a minute connected. The token is kept in memory only, renewed at 80 % of its life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from entgldb.actors import silence
from entgldb.actors.alarms import alarm
from entgldb.actors.backoff import backoff
from entgldb.actors.behaviour import INFO, WARNING, Context
from entgldb.actors.gateway import cloud_hello
from entgldb.actors.gateway.changeover import Changeover, only_secrets_differ
from entgldb.actors.gateway.vouching import Vouching, chain_of_cas
from entgldb.actors.ports import CloudTarget, ClusterCa, Links, LogReader, Secrets, TokenSource
from entgldb.actors.session.members import Gossip, Members
from entgldb.actors.session.session import NO_STATUS, Partner, Session
from entgldb.actors.session.sessions import Sessions
from entgldb.messages import wire
from entgldb.messages.errors import ProtocolError, Reason, known_reason
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from entgldb.messages.local.actors import Tick, TokenFailed, TokenIssued
from entgldb.messages.remote_peers import OAuth2, RemotePeer
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import GatewaySettings

TOKEN_WAIT: Final = 30.0
"""Seconds an authorization server may take."""
DIAL_WAIT: Final = 15.0
HELLO_WAIT: Final = 8.0
"""Seconds the cloud may take to check the token and say Hello."""
SECRET_WAIT: Final = 5.0
"""Seconds between looks for a secret that is missing."""
HEALTHY_AFTER: Final = 60.0
"""Seconds connected after which backoff begins anew."""
RETRY_AFTER_MAX: Final = 3600.0
RENEW_AT: Final = 0.8
TOKEN_LIFE_MAX: Final = 86_400.0
ASK_AGAIN_MAX: Final = 4.0
"""Seconds between attempts while the authority fails: a person who has mended it waits for the link."""
OF_THE_AUTHORITY: Final = frozenset(
    (
        Reason.AUTHORITY_UNREACHABLE,
        Reason.AUTHORITY_REFUSED,
        Reason.AUTHORITY_ERROR,
        Reason.TOKEN_REFUSED,
        Reason.TOKEN_EXPIRED,
    )
)

TOKEN, DIALLING, HELLO, OPEN, BACKOFF, CLOSED = "token", "dialling", "hello", "open", "backoff", "closed"
TOKEN_TRIES: Final = 3
"""Attempts in vain after which it is an alarm that there is no token."""
_OF_THE_TOKEN: Final = frozenset(reason.value for reason in (*OF_THE_AUTHORITY, Reason.SECRET_MISSING))

OVERDUE: Final = {
    TOKEN: (Reason.AUTHORITY_UNREACHABLE, f"no answer in {TOKEN_WAIT:.0f} s"),
    DIALLING: (Reason.UNREACHABLE, f"no connection in {DIAL_WAIT:.0f} s"),
    HELLO: (Reason.HANDSHAKE_TIMEOUT, f"no Hello in {HELLO_WAIT:.0f} s"),
}
"""Phases that end in a failure when their time is up."""
SHOWN: Final = {OPEN: "connected", BACKOFF: "backoff"}


@dataclass
class Means:
    """The means that all cloud links of a gateway share."""

    settings: GatewaySettings
    log: LogReader
    links: Links
    tokens: TokenSource
    secrets: Secrets
    count: Callable[[Reason], None]
    serial: Callable[[], int]
    """A number that was not given before, for tickets and timers."""
    members: Members
    sessions: Sessions
    ca: ClusterCa | None
    """None where this node has no cluster key: it leads no cluster."""


class CloudLink:
    """The state of the link to one cloud peer, from the wish to have it to its end."""

    def __init__(self, peer: RemotePeer, means: Means, epoch: int) -> None:
        self.peer = peer
        self.epoch = epoch
        self.link = 0
        self.session: Session | None = None
        self.phase = CLOSED
        self.reason = ""
        """Why the last attempt failed, until one succeeds."""
        self._means = means
        self._since_ms = 0
        self._failures = 0
        self._renewals_failed = 0
        self._failing_ms = 0
        """When the first attempt failed of those that have failed since one succeeded."""
        self._connected_at: float | None = None
        self._timer = 0
        self._ticket = 0
        self._token = ""
        self._renew_at = self._ends_at = 0.0
        """When the token is to be renewed, and when it ends."""
        self._ask_at = 0.0
        """Before that the authority does not want to be asked again."""
        self._put_off_for = ""
        self._secrets = Changeover()

    @property
    def oauth2(self) -> OAuth2:
        assert self.peer.oauth2 is not None, "checked when the peer was read"
        return self.peer.oauth2

    # --- towards the open link -------------------------------------------------------------------

    def begin(self, ctx: Context) -> None:
        """The next attempt."""
        if not self._means.secrets.resolvable(self.peer.node_id, self.oauth2):
            self._wait_for_secret(ctx)
        elif self._token and ctx.monotonic() < self._renew_at:
            self._dial(ctx)
        elif ctx.monotonic() < self._ask_at:
            self.reason = self._put_off_for
            self._enter(BACKOFF, ctx)
            self._wake(self._ask_at - ctx.monotonic(), ctx)
        else:
            self._enter(TOKEN, ctx)
            self._request_token(ctx)

    def token_issued(self, message: TokenIssued, ctx: Context) -> None:
        if message.ticket != self._ticket:
            return
        self._ticket = 0
        self._token = message.token
        life = min(max(message.expires_in, 1.0), TOKEN_LIFE_MAX)
        again = min(RENEW_AT * life, self._secrets.taken(self.peer.node_id, self.oauth2, ctx))
        self._renew_at = ctx.monotonic() + again
        self._ends_at = ctx.monotonic() + life
        if self.phase == TOKEN:
            self._dial(ctx)
        elif self.phase == OPEN:
            self.reason = ""
            self._renewals_failed = 0
            self._send(wire.Credential(self._token, self.epoch))
            self._wake(again, ctx)

    def token_failed(self, message: TokenFailed, ctx: Context) -> None:
        if message.ticket != self._ticket:
            return
        self._ticket = 0
        other = self._secrets.second(self.oauth2, ctx) if message.by_client else None
        if other is not None:
            self._means.count(known_reason(message.reason, Reason.AUTHORITY_ERROR))
            self._warn("its new client secret is refused; the one before is used", ctx)
            self._ask(other, ctx)
            return
        reason = known_reason(message.reason, Reason.AUTHORITY_ERROR)
        self._ask_at = ctx.monotonic() + min(message.retry_after, RETRY_AFTER_MAX)
        self._put_off_for = reason.value
        if self.phase == TOKEN:
            self._fail(reason, message.text, ctx, message.retry_after)
        elif self.phase == OPEN:
            self._renewal_failed(reason, message.text, ctx, message.retry_after)

    def link_up(self, ctx: Context) -> None:
        """TLS is through: say who we are."""
        if self.phase != DIALLING:
            return
        self._enter(HELLO, ctx)
        self._wake(HELLO_WAIT, ctx)
        ca_key, successors = chain_of_cas(self._means.ca, self._means.log)
        hello = replace(self._means.sessions.hello(ctx), ca_key=ca_key, successors=successors)
        self._send(replace(hello, token=self._token, epoch=self.epoch))

    def frame(self, payload: bytes, ctx: Context) -> None:
        """One frame of the cloud. A frame that breaks the format closes this link and nothing else."""
        bytes_max = FRAME_BYTES_MAX if self.phase == OPEN else HELLO_BYTES_MAX
        try:
            frame = self._means.sessions.decode(payload, self.session, ctx, bytes_max)
        except ProtocolError as fault:
            self._fail(Reason.MALFORMED, fault.text, ctx)
            return
        if frame is not None:
            self._hear(frame, ctx)

    def link_down(self, reason: str, text: str, ctx: Context) -> None:
        self.link = 0
        self._fail(known_reason(reason, Reason.PEER_CLOSED), text, ctx)

    # --- time --------------------------------------------------------------------------------------

    def timer(self, generation: int, ctx: Context) -> None:
        """The time of the present phase is up."""
        if generation != self._timer:
            return
        if self.phase == BACKOFF:
            self.begin(ctx)
        elif self.phase == OPEN:
            self._renew(ctx)
        elif self.phase in OVERDUE:
            self._fail(*OVERDUE[self.phase], ctx)

    def look(self, ctx: Context) -> None:
        """Every heartbeat interval: whether the session may stay."""
        fault = None if self.session is None else self.session.overdue(ctx)
        if fault is not None:
            self._fail(*fault, ctx)

    def failed(self, ctx: Context) -> None:
        """A bug met by this link: it is dialled anew."""
        self._fail(Reason.HANDLER_FAILED, "this node failed on what it heard", ctx)

    # --- from outside --------------------------------------------------------------------------------

    def new_epoch(self, epoch: int) -> None:
        """The same gateway has won another election: the cloud shall show it."""
        if epoch != self.epoch:
            self.epoch = epoch
            if self.phase == OPEN:
                self._send(wire.Credential(self._token, epoch))

    def may_become(self, peer: RemotePeer) -> bool:
        """Whether this link may go on as the one to ``peer``: at most its client secret changes over."""
        ours = replace(self.peer, extra=())
        if peer.oauth2 is None or replace(peer, extra=()) == ours:
            return peer.oauth2 is not None
        alike = replace(peer, extra=(), oauth2=self.oauth2) == ours
        return alike and only_secrets_differ(self.oauth2, peer.oauth2)

    def become(self, peer: RemotePeer, ctx: Context) -> None:
        """Go on as the link to ``peer``: with a new secret a token is asked for at once."""
        before, self.peer = self.oauth2.client_secret, peer
        if self.oauth2.client_secret == before:
            return
        self._secrets = Changeover()
        self._ticket, self._ask_at, self._renew_at = 0, 0.0, ctx.monotonic()
        if self.phase == OPEN:
            self._renew(ctx)
        elif self.phase in (TOKEN, BACKOFF):
            self.begin(ctx)

    def close(self, reason: Reason, ctx: Context) -> None:
        """For good; the cloud is told why."""
        self._hang_up(reason, "", ctx)
        self._enter(CLOSED, ctx)
        self._timer = self._ticket = 0
        self._token = ""
        self._means.count(reason)
        ctx.log(INFO, f"cloud peer {self.peer.node_id}: closed, {reason.value}")

    def token_alarm(self) -> dict[str, Json] | None:
        """The alarm that no token can be had, after some attempts; None where there is no such trouble."""
        tries = max(self._failures, self._renewals_failed)
        lasting = tries >= TOKEN_TRIES or self.reason == Reason.SECRET_MISSING.value
        if not lasting or self.reason not in _OF_THE_TOKEN:
            return None
        then = "its link ends with the one it has" if self.phase == OPEN else "its link is down"
        text = f"there is no token for cloud peer {self.peer.node_id}, {self.reason}: {then}"
        code, node_id = "token-not-renewed", self.peer.node_id
        return alarm(code, node_id, f"{text}: entgldb test-peer {node_id}", self._failing_ms)

    def status(self, ctx: Context) -> dict[str, Json]:
        """One row of ``gateway`` status; ``since`` in milliseconds since 1970.

        ``secret`` is empty, or while it changes over which one was asked with: ``new`` or ``previous``.
        ``token_expires`` in seconds since 1970, as the cloud tells it of its peers; None: no token.
        """
        left = self._ends_at - ctx.monotonic()
        return {
            "node_id": self.peer.node_id,
            "address": self.peer.address,
            "state": SHOWN.get(self.phase, "connecting"),
            "reason": self.reason,
            "since": self._since_ms,
            "max_rate": self.peer.max_rate,
            "secret": self._secrets.told(self.oauth2),
            "token_expires": ctx.now_ms() / 1000 + left if self._token else None,
            **(NO_STATUS if self.session is None else self.session.status(ctx)),
        }

    # --- inside ----------------------------------------------------------------------------------------

    def _dial(self, ctx: Context) -> None:
        self._enter(DIALLING, ctx)
        self._wake(DIAL_WAIT, ctx)
        target = CloudTarget(self.peer.node_id, self.peer.address, self.oauth2.ca_pem)
        self.link = self._means.links.dial_cloud(target)

    def _hear(self, message: Message, ctx: Context) -> None:
        if isinstance(message, wire.Bye):
            self._fail(known_reason(message.reason, Reason.PEER_CLOSED), message.text, ctx)
        elif isinstance(message, wire.Hello):
            self._hear_hello(message, ctx)
        elif self.session is None:
            self._means.count(Reason.OUT_OF_ORDER)
        else:
            self.session.receive(message, ctx)
            if self.session.fault is not None:
                self._fail(*self.session.fault, ctx)

    def _hear_hello(self, hello: wire.Hello, ctx: Context) -> None:
        if self.phase != HELLO:
            self._fail(Reason.MALFORMED, "a Hello out of turn", ctx)
        elif (fault := cloud_hello.fault(hello, self.peer.node_id, self._means.settings.node_id)) is not None:
            self._fail(*fault, ctx)
        else:
            self._open(hello, ctx)

    def _open(self, hello: wire.Hello, ctx: Context) -> None:
        self.reason = ""
        self._enter(OPEN, ctx)
        self._connected_at, self._renewals_failed = ctx.monotonic(), 0
        self._wake(max(0.0, self._renew_at - ctx.monotonic()), ctx)
        patience = silence.patience(self._means.settings.heartbeat_interval, hello)
        self.session = self._means.sessions.open(
            Partner(hello.node_id, begins=True, patience=patience, max_rate=self.peer.max_rate),
            Gossip(self._means.members, speaks_for=self.peer.node_id),
            self._send,
            lambda: self._means.links.flow(self.link),
            Vouching(self._means.ca, hello).attested,
        )
        self.session.start(ctx)
        ctx.log(INFO, f"cloud peer {self.peer.node_id}: connected to {self.peer.address}")

    def _renew(self, ctx: Context) -> None:
        if self._ticket:
            self._ticket = 0
            text = f"no answer in {TOKEN_WAIT:.0f} s"
            self._renewal_failed(Reason.AUTHORITY_UNREACHABLE, text, ctx, 0.0)
        elif not self._means.secrets.resolvable(self.peer.node_id, self.oauth2):
            self._renewal_failed(Reason.SECRET_MISSING, "", ctx, SECRET_WAIT)
        else:
            self._request_token(ctx)

    def _renewal_failed(self, reason: Reason, text: str, ctx: Context, retry_after: float) -> None:
        """The link stays open until the cloud closes it for the token's age."""
        self._failing_ms = self._failing_ms if self.reason else ctx.now_ms()
        self.reason = reason.value
        self._renewals_failed += 1
        delay = self._delay(reason, self._renewals_failed, retry_after, ctx)
        self._means.count(reason)
        self._wake(delay, ctx)
        self._warn(f"token not renewed, {reason.value} {text}; again in {delay:.1f} s", ctx)

    def _request_token(self, ctx: Context) -> None:
        self._ask(self._secrets.first(self.oauth2), ctx)

    def _ask(self, oauth2: OAuth2, ctx: Context) -> None:
        self._ticket = self._means.serial()
        self._wake(TOKEN_WAIT, ctx)
        self._means.tokens.request(self.peer.node_id, self._ticket, oauth2)

    def _wait_for_secret(self, ctx: Context) -> None:
        self._failing_ms = self._failing_ms if self.reason else ctx.now_ms()
        if self.reason != Reason.SECRET_MISSING.value:
            self._means.count(Reason.SECRET_MISSING)
            self._warn("its client secret cannot be resolved on this node", ctx)
        self.reason = Reason.SECRET_MISSING.value
        self._enter(BACKOFF, ctx)
        self._wake(SECRET_WAIT, ctx)

    def _fail(self, reason: Reason, text: str, ctx: Context, retry_after: float = 0.0) -> None:
        """This attempt or this connection is over; try again after a backoff."""
        if self._connected_at is not None and ctx.monotonic() - self._connected_at >= HEALTHY_AFTER:
            self._failures = 0
        self._hang_up(reason, text, ctx)
        if reason in (Reason.TOKEN_REFUSED, Reason.TOKEN_EXPIRED):
            self._token = ""
        self._failures += 1
        delay = self._delay(reason, self._failures, retry_after, ctx)
        self._failing_ms = self._failing_ms if self.reason else ctx.now_ms()
        self.reason = reason.value
        self._enter(BACKOFF, ctx)
        self._wake(delay, ctx)
        self._means.count(reason)
        self._warn(f"{reason.value} {text}; again in {delay:.1f} s", ctx)

    def _delay(self, reason: Reason, failures: int, retry_after: float, ctx: Context) -> float:
        settings = self._means.settings
        most = settings.backoff_max
        most = min(most, ASK_AGAIN_MAX) if reason in OF_THE_AUTHORITY else most
        delay = backoff(failures, settings.backoff_first, most, ctx.random)
        return max(delay, min(retry_after, RETRY_AFTER_MAX))

    def _hang_up(self, reason: Reason, text: str, ctx: Context) -> None:
        self._connected_at = None
        self._ticket = 0
        if self.session is not None:
            self._means.sessions.end(self.session, ctx)
            self.session = None
        link, self.link = self.link, 0
        if link:
            if self.phase in (HELLO, OPEN):
                self._means.links.send(link, wire.Bye(reason.value, text))
            self._means.links.close(link, reason.value, text)

    def _send(self, message: Message) -> bool:
        return bool(self.link) and self._means.links.send(self.link, message)

    def _enter(self, phase: str, ctx: Context) -> None:
        if SHOWN.get(phase) != SHOWN.get(self.phase) or not self._since_ms:
            self._since_ms = ctx.now_ms()
        self.phase = phase

    def _wake(self, seconds: float, ctx: Context) -> None:
        self._timer = self._means.serial()
        ctx.after(seconds, Tick("link", self._timer))

    def _warn(self, text: str, ctx: Context) -> None:
        ctx.log(WARNING, f"cloud peer {self.peer.node_id}: {text}")
