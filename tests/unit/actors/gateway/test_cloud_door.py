"""The cloud role put together: SyncActor's behaviour behind real TLS, with tokens of a real authority."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.gateway.probe import CloudProber
from entgldb.actors.oauth import resource_server as jwt_check
from entgldb.actors.oauth.client import HttpTokenSource, fetch_token
from entgldb.actors.oauth.resource_server import JwtChecker
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.ports import CloudTarget
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.peer_link import CREDENTIAL_SECONDS, CREDENTIALS_AT_ONCE_MAX
from entgldb.actors.tls.identity import ServerIdentity, cloud_context
from entgldb.actors.tls.links import TlsLinks
from entgldb.messages import codec, wire
from entgldb.messages.client import Report, Status
from entgldb.messages.errors import Reason
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from entgldb.messages.local.actors import ProbeDone
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.schema import Channel, Message
from entgldb.messages.secret import Secret
from entgldb.messages.settings import SyncSettings
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.gateway.server_certificate import ServerCertificate, issue_server_certificate
from tests.unit.actors.oauth.authority_process import AuthorityProcess

AUDIENCE = "cloud-1"


class Cloud:
    """A cloud node's SyncActor without its process."""

    def __init__(self, settings: SyncSettings) -> None:
        self.loop = SideLoop("cloud")
        server = ServerIdentity(settings.tls_cert, settings.tls_key)
        self.links = TlsLinks(self.loop, listen=settings.listen, server=server)
        now_ms = int(time.time() * 1000)
        self.store = Store.memory(settings.node_id, b"cloud", now_ms)
        with self.store.group():
            self.store.pin_cluster("cluster", "client")
        checker = JwtChecker(self.loop, settings)
        self.sync = Sync(settings, self.store, Trusting(), self.links, checker, NoSnapshots())
        self.context = FakeContext(wall_ms=now_ms)
        self.context.behaviour = self.sync
        self.loop.start()
        self.sync.start(self.context)

    def handle_arrivals(self) -> None:
        """Hand over the messages that have arrived, as its host does at a wake-up."""
        for _, message in self.loop.drain():
            self.context.hand(message)

    def until(self, done: Callable[[], object], others: tuple[ssl.SSLSocket, ...] = ()) -> None:
        """Handle what arrives, until ``done``."""
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, dict(self.sync.counts)
            select.select([self.loop, *others], [], [], 0.2)
            self.handle_arrivals()

    def stop(self) -> None:
        self.loop.stop()
        self.store.close()


class Caller:
    """A TLS connection to a cloud whose bytes the test decides about."""

    def __init__(self, cloud: Cloud, ca_pem: str) -> None:
        plain = socket.create_connection(("127.0.0.1", cloud.links.port()), 15)
        self.socket = cloud_context(ca_pem).wrap_socket(plain, server_hostname="127.0.0.1")
        self.socket.setblocking(False)
        self._reader = FrameReader()
        self._cloud = cloud

    def say(self, *messages: Message) -> None:
        self.socket.setblocking(True)
        self.socket.sendall(b"".join(frame(codec.encode(message)) for message in messages))
        self.socket.setblocking(False)

    def hello(self, token: str) -> None:
        self.say(wire.Hello(1, 1, "lan-1", f"lan-1/{'ab' * 16}", "cluster", (), 0, "lan", token))

    def expect(self, kind: type[Message]) -> Message:
        """The next message of this kind."""
        found: list[Message] = []

        def heard() -> bool:
            with suppress(ssl.SSLWantReadError, BlockingIOError):
                self._reader.feed(self.socket.recv(65_536))
            found.extend(codec.decode(payload, Channel.PEER).message for payload in self._reader)
            return any(type(message) is kind for message in found)

        self._cloud.until(heard, (self.socket,))
        return next(message for message in found if type(message) is kind)

    def live(self, seconds: float) -> None:
        """Be heard, and let virtual time pass: never more of it than a peer may be silent."""
        open_ = [peer for peer in self._cloud.sync._open.values() if peer.session and not peer.closing]
        if not open_:
            self._cloud.handle_arrivals()
            return
        self.say(wire.Heartbeat(0, 0, 0))
        self._cloud.until(lambda: not open_[0].session.silent_for(self._cloud.context))
        self._cloud.context.run(seconds)

    def close(self) -> None:
        self.socket.close()


class Gateway:
    """The asking side: a prober with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.loop = SideLoop("gateway")
        tokens = HttpTokenSource(self.loop, KeyedSecrets(str(folder / "key"), "c1"))
        self.prober = CloudProber(self.loop, tokens)
        self.loop.start()

    def probe(self, cloud: Cloud, ca_pem: str, oauth2: OAuth2) -> dict[str, Any]:
        """Steps by name; meanwhile the cloud handles what arrives."""
        target = CloudTarget("cloud-1", f"127.0.0.1:{cloud.links.port()}", ca_pem, "cluster")
        self.prober.probe(1, target, oauth2)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            ready, _, _ = select.select([cloud.loop, self.loop], [], [], 1)
            if cloud.loop in ready:
                cloud.handle_arrivals()
            if self.loop in ready:
                [(_, done)] = self.loop.drain()
                assert isinstance(done, ProbeDone)
                return {step["name"]: step for step in done.steps}
        raise AssertionError("the probe did not end")


@pytest.fixture(scope="module")
def authority() -> Iterator[AuthorityProcess]:
    with AuthorityProcess("gw:s3cret", "other:s3cret") as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return issue_server_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def cloud(authority: AuthorityProcess, certificate: ServerCertificate) -> Iterator[Cloud]:
    made = Cloud(
        SyncSettings(
            "cloud-1",
            "/nonexistent",
            "cloud",
            "",
            "127.0.0.1:0",
            tls_cert=str(certificate.certificate),
            tls_key=str(certificate.key),
            authority=authority.url,
            audience=AUDIENCE,
            allow_clients=("gw",),
        )
    )
    yield made
    made.stop()


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv("ENTGLDB_TEST_SECRET", "s3cret")
    made = Gateway(tmp_path)
    yield made
    made.loop.stop()


@pytest.fixture
def oauth2(authority: AuthorityProcess) -> OAuth2:
    authority.control(mode="ok")
    return OAuth2(authority.url, "gw", "env:ENTGLDB_TEST_SECRET", ("entgldb:sync",), AUDIENCE)


def test_a_gateway_with_a_good_token_is_let_in(
    cloud: Cloud, gateway: Gateway, certificate: ServerCertificate, oauth2: OAuth2
) -> None:
    steps = gateway.probe(cloud, certificate.ca_pem, oauth2)
    assert [step["detail"] for step in steps.values() if not step["ok"]] == []
    assert steps["hello"]["detail"] == "protocol 1, role cloud"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda good: replace(good, audience="cloud-2"), "Audience doesn't match"),
        (lambda good: replace(good, client_id="other"), "client other is not on the list"),
    ],
    ids=["another audience", "another client"],
)
def test_a_token_for_somebody_else_is_refused_with_its_reason(
    cloud: Cloud,
    gateway: Gateway,
    certificate: ServerCertificate,
    oauth2: OAuth2,
    change: Callable[[OAuth2], OAuth2],
    said: str,
) -> None:
    steps = gateway.probe(cloud, certificate.ca_pem, change(oauth2))
    assert steps["token"]["ok"]
    assert not steps["hello"]["ok"]
    assert steps["hello"]["detail"].startswith("refused: token-refused")
    assert said in steps["hello"]["detail"]


@pytest.fixture
def token(authority: AuthorityProcess, oauth2: OAuth2) -> str:
    return asyncio.run(fetch_token(oauth2, Secret("s3cret"))).text


@pytest.fixture
def caller(cloud: Cloud, certificate: ServerCertificate) -> Iterator[Caller]:
    made = Caller(cloud, certificate.ca_pem)
    yield made
    made.close()


def addresses(size: int) -> wire.PeersKnown:
    """A message of about this size, which a cloud reads and ignores."""
    return wire.PeersKnown({"lan-2": "x" * size})


def test_only_an_accepted_token_makes_room_for_more_than_a_hello(
    cloud: Cloud, caller: Caller, token: str
) -> None:
    """Found here: any Hello, its token not judged yet, made the cloud take frames of FRAME_BYTES_MAX."""
    caller.hello(token)
    caller.expect(wire.Hello)
    caller.say(addresses(FRAME_BYTES_MAX - 100), wire.Heartbeat(0, 0, 0), wire.Bye("stopping", ""))
    cloud.until(lambda: cloud.sync.counts["stopping"] == 1)
    assert cloud.sync.counts["malformed"] == 0


@pytest.mark.parametrize("size", [HELLO_BYTES_MAX - 100, HELLO_BYTES_MAX + 1])
def test_while_its_token_is_not_judged_a_link_has_room_for_a_hello_alone(
    authority: AuthorityProcess, cloud: Cloud, caller: Caller, token: str, size: int
) -> None:
    authority.control(mode="hang")
    caller.hello(token)
    with suppress(OSError):  # it may be refused while it is being said
        caller.say(addresses(size), wire.Bye("stopping", ""))
    said = Reason.MALFORMED if size > HELLO_BYTES_MAX else Reason.STOPPING
    cloud.until(lambda: cloud.sync.counts[said.value] == 1)
    authority.control(mode="ok")


def test_more_tokens_than_a_gateway_has_reason_to_bring_close_its_link(
    cloud: Cloud, caller: Caller, token: str
) -> None:
    caller.hello(token)
    caller.expect(wire.Hello)
    caller.say(*[wire.Credential(token, epoch) for epoch in range(1, CREDENTIALS_AT_ONCE_MAX + 2)])
    bye = caller.expect(wire.Bye)
    assert isinstance(bye, wire.Bye)
    assert bye.reason == Reason.TOO_MANY_CREDENTIALS.value
    cloud.until(lambda: cloud.sync.counts["too-many-credentials"] == 1)


def test_tokens_at_a_gateways_pace_are_taken_for_ever(cloud: Cloud, caller: Caller, token: str) -> None:
    caller.hello(token)
    caller.expect(wire.Hello)
    for epoch in range(1, 4 * CREDENTIALS_AT_ONCE_MAX):
        caller.say(wire.Heartbeat(0, 0, 0), wire.Credential(token, epoch))
        cloud.until(lambda epoch=epoch: [row["epoch"] for row in peers(cloud)] == [epoch])
        cloud.context.run(CREDENTIAL_SECONDS)
    assert cloud.sync.counts == {}


def test_a_new_token_that_cannot_be_judged_does_not_end_a_link_whose_token_is_good(
    authority: AuthorityProcess, cloud: Cloud, caller: Caller, oauth2: OAuth2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found here: the cloud hung up at once when it could not fetch keys, and let nobody in again."""
    monkeypatch.setattr(jwt_check, "KEYS_SECONDS_MAX", 0.0)
    monkeypatch.setattr(jwt_check, "RETRY_SECONDS_MIN", 0.0)
    authority.control(lifetime_s=100)
    caller.hello(asyncio.run(fetch_token(oauth2, Secret("s3cret"))).text)
    caller.expect(wire.Hello)
    first = peers(cloud)[0]["token_expires"]
    authority.control(lifetime_s=300)
    second = asyncio.run(fetch_token(oauth2, Secret("s3cret"))).text
    authority.control(mode="500")
    caller.say(wire.Credential(second, 1))
    cloud.until(lambda: cloud.sync.counts["authority-error"] == 1)
    assert [row["token_expires"] for row in peers(cloud)] == [first]
    authority.control(mode="ok")

    def judged() -> bool:
        caller.live(1.0)
        return peers(cloud)[0]["token_expires"] > first

    cloud.until(judged)
    assert set(cloud.sync.counts) == {"authority-error"}


def test_a_token_never_judged_ends_with_the_one_that_was(
    authority: AuthorityProcess, cloud: Cloud, caller: Caller, oauth2: OAuth2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt_check, "KEYS_SECONDS_MAX", 0.0)
    authority.control(lifetime_s=100)
    token = asyncio.run(fetch_token(oauth2, Secret("s3cret"))).text
    caller.hello(token)
    caller.expect(wire.Hello)
    authority.control(mode="500", lifetime_s=300)
    caller.say(wire.Credential(token, 1))

    def ended() -> bool:
        if not cloud.sync.counts["token-expired"]:
            caller.live(1.0)
        return cloud.sync.counts["token-expired"] == 1

    cloud.until(ended)
    assert cloud.context.monotonic() >= 100
    authority.control(mode="ok")


def peers(cloud: Cloud) -> list[dict[str, Any]]:
    report = cloud.context.ask(Status())
    assert isinstance(report, Report)
    rows: list[dict[str, Any]] = report.body["peers"]
    return rows
