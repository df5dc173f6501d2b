"""Stand-ins for what lies beyond a node: the authorization server, secrets, the prober."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from entgldb.actors.oauth.tenancy import Naming
from entgldb.actors.ports import CloudTarget, KeyRing
from entgldb.launch.testing.world import EPOCH_MS, World
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import ProbeDone, TokenChecked, TokenFailed, TokenIssued
from entgldb.messages.remote_peers import SEALED, OAuth2
from entgldb.messages.schema import Message

TOKEN_LIFE_SECONDS = 15.0
"""Short, so that tokens are renewed on open links within a run."""

ISSUER = "the simulated authority"

Deliver = Callable[[str, Message], bool]


class Authority:
    """The authorization server: issues tokens while it is up. Its clock is right."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.revoked = False
        """Whether it has told the clouds to take none of its tokens for now."""
        self.issued = 0
        self.refused: set[str] = set()
        """Client secrets that it does not take, or not yet."""

    def token(self, client_id: str) -> str:
        """A token that says who may use it until when."""
        self.issued += 1
        return f"{client_id}|{self.issued}|{EPOCH_MS / 1000 + self.world.time + TOKEN_LIFE_SECONDS:.3f}"


class VirtualTokens:
    """Implements ``ports.TokenSource``."""

    def __init__(self, authority: Authority, deliver: Deliver) -> None:
        self._authority = authority
        self._deliver = deliver

    def request(self, node_id: str, ticket: int, oauth2: OAuth2) -> None:
        world = self._authority.world
        world.after(0.01 + world.random.random() * 0.1, self._answer, node_id, ticket, oauth2)

    def _answer(self, node_id: str, ticket: int, oauth2: OAuth2) -> None:
        secret = oauth2.client_secret
        if secret.startswith(SEALED):
            secret = bytes.fromhex(secret.rpartition(":")[2]).decode()
        if self._authority.up and secret in self._authority.refused:
            word = Reason.AUTHORITY_REFUSED.value
            self._deliver("gateway", TokenFailed(node_id, ticket, word, "invalid_client", 0.0, True))
        elif self._authority.up:
            token = self._authority.token(oauth2.client_id)
            self._deliver("gateway", TokenIssued(node_id, ticket, token, TOKEN_LIFE_SECONDS))
        else:
            word = Reason.AUTHORITY_UNREACHABLE.value
            self._deliver("gateway", TokenFailed(node_id, ticket, word, "no answer", 0.0))


class VirtualDisk:
    """Implements ``ports.Disk``."""

    def __init__(self) -> None:
        self.free: int | None = None

    def free_bytes(self) -> int | None:
        return self.free


class VirtualChecker:
    """Implements ``ports.TokenChecker`` for the cloud role."""

    def __init__(
        self, world: World, authority: Authority, now_ms: Callable[[], int], deliver: Deliver
    ) -> None:
        self._world = world
        self._authority = authority
        self._now_ms = now_ms
        self._deliver = deliver
        self.naming: Naming | None = None
        """How tenants are named; None: there are none."""

    def check(self, link: int, ticket: int, token: str) -> None:
        self._world.after(self._world.random.random() * 0.01, self._answer, link, ticket, token)

    def _answer(self, link: int, ticket: int, token: str) -> None:
        parts = token.split("|")
        if len(parts) != 3 or self._authority.revoked:
            self._say(link, ticket, "", 0.0, Reason.TOKEN_REFUSED)
            return
        client_id, _, expires = parts
        late = float(expires) <= self._now_ms() / 1000
        self._say(link, ticket, client_id, float(expires), Reason.TOKEN_EXPIRED if late else None)

    def _say(self, link: int, ticket: int, client_id: str, expires: float, reason: Reason | None) -> None:
        word = "" if reason is None else reason.value
        tenant = "" if self.naming is None or word else self.naming.tenant(client_id, {})
        self._deliver("sync", TokenChecked(link, ticket, client_id, expires, word, word, tenant, ISSUER))


class VirtualSecrets:
    """Implements ``ports.Secrets``: every node of the cluster can unseal."""

    def __init__(self, ring: KeyRing | None = None) -> None:
        self.ring = ring

    def resolvable(self, node_id: str, oauth2: OAuth2) -> bool:
        return bool(oauth2.client_secret)

    def seal(self, node_id: str, oauth2: OAuth2, secret: str) -> str:
        return f"{self._mark()}{secret.encode().hex()}"

    def resealed(self, node_id: str, oauth2: OAuth2) -> OAuth2 | None:
        now, before = self._anew(oauth2.client_secret), self._anew(oauth2.previous_secret)
        made = replace(oauth2, client_secret=now, previous_secret=before)
        return None if made == oauth2 else made

    def _anew(self, secret: str) -> str:
        return f"{self._mark()}{secret.rpartition(':')[2]}" if secret.startswith(SEALED) else secret

    def _mark(self) -> str:
        return f"{SEALED}{'simulated' if self.ring is None else self.ring.held()[0]}:"

    def matches(self, node_id: str, oauth2: OAuth2, secret: str) -> bool:
        return oauth2.client_secret in (secret, self.seal(node_id, oauth2, secret))


class VirtualProber:
    """Implements ``ports.Prober``."""

    def __init__(self, authority: Authority, deliver: Deliver, reaches: Callable[[str], bool]) -> None:
        self._authority = authority
        self._deliver = deliver
        self._reaches = reaches

    def probe(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> None:
        self._authority.world.after(0.2, self._answer, ticket, target.address)

    def _answer(self, ticket: int, address: str) -> None:
        ok = self._authority.up and self._reaches(address)
        self._deliver("gateway", ProbeDone(ticket, ({"name": "hello", "ok": ok, "seconds": 0.2},)))
