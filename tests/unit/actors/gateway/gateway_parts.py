"""The parts that a gateway is handed, as recorders: links, token source, secrets, prober; and a rig of it
all."""

from __future__ import annotations

import json

from entgldb.actors.gateway.behaviour import Gateway
from entgldb.actors.line import NOTHING, Flow
from entgldb.actors.ports import CloudTarget
from entgldb.messages import codec
from entgldb.messages.client import Report, Status
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp, Reconfigure, TokenFailed, TokenIssued
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import GatewaySettings
from entgldb.messages.wire import Hello
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots

CLOUD_ORIGIN = "cloud-node/" + "ab" * 16


class FakeLinks:
    """Numbers dials, keeps what was sent and closed."""

    def __init__(self) -> None:
        self.dialled: list[CloudTarget] = []
        self.sent: list[tuple[int, Message]] = []
        self.closed: list[tuple[int, str]] = []

    def dial(self, address: str) -> int:
        raise AssertionError("the gateway dials no LAN peer")

    def dial_cloud(self, target: CloudTarget) -> int:
        self.dialled.append(target)
        return len(self.dialled)

    def send(self, link: int, message: Message) -> bool:
        self.sent.append((link, message))
        return True

    def flow(self, link: int) -> Flow:
        return NOTHING

    def close(self, link: int, reason: str, text: str = "") -> None:
        self.closed.append((link, reason))

    def good_until_ms(self) -> int:
        return 0

    def admit(self, link: int, client_id: str) -> None:
        raise AssertionError("the gateway lets nobody in")

    def port(self) -> int:
        return 0

    def take(self, link: int) -> list[Message]:
        """Take out the messages that were sent on ``link`` since the last time."""
        found = [m for at, m in self.sent if at == link]
        self.sent = [(at, m) for at, m in self.sent if at != link]
        return found


class FakeTokens:
    def __init__(self) -> None:
        self.requests: list[tuple[str, int, OAuth2]] = []

    def request(self, node_id: str, ticket: int, oauth2: OAuth2) -> None:
        self.requests.append((node_id, ticket, oauth2))


class FakeSecrets:
    ring = None
    """Resolves every secret but those of ``missing`` peers."""

    def __init__(self) -> None:
        self.missing: set[str] = set()

    def resolvable(self, node_id: str, oauth2: OAuth2) -> bool:
        return node_id not in self.missing

    def seal(self, node_id: str, oauth2: OAuth2, secret: str) -> str:
        raise AssertionError("the gateway seals nothing")

    def resealed(self, node_id: str, oauth2: OAuth2) -> OAuth2 | None:
        return None

    def matches(self, node_id: str, oauth2: OAuth2, secret: str) -> bool:
        raise AssertionError("the gateway compares no secrets")


class FakeProber:
    def __init__(self) -> None:
        self.probes: list[tuple[int, CloudTarget, OAuth2]] = []

    def probe(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> None:
        self.probes.append((ticket, target, oauth2))


def peer(node_id: str, *, enabled: bool = True, port: int = 9000, client: str = "gw") -> dict[str, Json]:
    """A document of _system_remote_peers."""
    settings = {"authority": "https://id.example.com", "clientId": client, "clientSecret": "env:S"}
    return {
        "NodeId": node_id,
        "Address": f"{node_id}.example.com:{port}",
        "Type": 2,
        "OAuth2Json": json.dumps(settings),
        "IsEnabled": enabled,
    }


class Rig:
    """A gateway behaviour named ``lan-1`` and all around it."""

    def __init__(self, role: str = "lan") -> None:
        self.ctx = FakeContext()
        self.links, self.tokens = FakeLinks(), FakeTokens()
        self.secrets, self.prober = FakeSecrets(), FakeProber()
        self.store = Store.memory("lan-1", b"rig", self.ctx.now_ms())
        settings = GatewaySettings("lan-1", "", role, "")
        self.gateway = Gateway(
            settings,
            self.store,
            Trusting(),
            self.links,
            self.tokens,
            self.secrets,
            self.prober,
            NoSnapshots(),
        )
        self.ctx.behaviour = self.gateway
        self.gateway.start(self.ctx)

    def reconfigure(self, *peers: dict[str, Json], gateway: str = "lan-1", epoch: int = 1) -> None:
        self.ctx.hand(Reconfigure(gateway, epoch, peers, "peers"))

    def issue(self, expires_in: float = 300.0, token: str = "t0k") -> None:
        """The authority answers the newest request."""
        node_id, ticket, _ = self.tokens.requests[-1]
        self.ctx.hand(TokenIssued(node_id, ticket, token, expires_in))

    def refuse(self, reason: str, retry_after: float = 0.0, *, by_client: bool = False) -> None:
        node_id, ticket, _ = self.tokens.requests[-1]
        self.ctx.hand(TokenFailed(node_id, ticket, reason, "", retry_after, by_client))

    def up(self) -> int:
        """The newest dial reaches the cloud; its number."""
        link = len(self.links.dialled)
        self.ctx.hand(LinkUp(link, False, self.links.dialled[-1].address, ""))
        return link

    def down(self, link: int, reason: str = "unreachable") -> None:
        self.ctx.hand(LinkDown(link, reason, ""))

    def hear(self, link: int, message: Message) -> None:
        self.ctx.hand(FrameIn(link, codec.encode(message)))

    def hello(self, link: int, *, role: str = "cloud", node_id: str = "") -> None:
        node_id = node_id or self.links.dialled[link - 1].node_id
        origin = CLOUD_ORIGIN.replace("cloud-node", node_id)
        self.hear(link, Hello(1, 1, node_id, origin, "", (), self.ctx.now_ms(), role))

    def connect(self, *peers: dict[str, Json], expires_in: float = 300.0) -> int:
        """From a Reconfigure to the open session of its one peer."""
        self.reconfigure(*peers)
        self.issue(expires_in)
        link = self.up()
        self.hello(link)
        self.links.take(link)
        return link

    def status(self) -> dict[str, Json]:
        answer = self.ctx.ask(Status())
        assert isinstance(answer, Report)
        body: dict[str, Json] = answer.body
        return body

    def row(self, index: int = 0) -> dict[str, Json]:
        found: dict[str, Json] = self.status()["links"][index]
        return found
