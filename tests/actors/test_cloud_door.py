"""The cloud role put together: SyncActor's behaviour behind real TLS, with tokens of a real authority."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.jwt_check import JwtChecker
from entgldb.actors.links import TlsLinks
from entgldb.actors.oauth import HttpTokenSource
from entgldb.actors.ports import CloudTarget
from entgldb.actors.probe import CloudProber
from entgldb.actors.secrets import KeyedSecrets
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.sync import Sync
from entgldb.actors.tls import ServerIdentity
from entgldb.messages.local import ProbeDone
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.settings import SyncSettings
from entgldb.storage.store import Store
from tests.actors.authority_process import AuthorityProcess
from tests.actors.fake_context import FakeContext
from tests.actors.server_certificate import ServerCertificate, issue_server_certificate

AUDIENCE = "cloud-1"


class Cloud:
    """A cloud node's SyncActor without its process."""

    def __init__(self, settings: SyncSettings) -> None:
        self.loop = SideLoop("cloud")
        server = ServerIdentity.load(settings.tls_cert, settings.tls_key)
        self.links = TlsLinks(self.loop, listen=settings.listen, server=server)
        now_ms = int(time.time() * 1000)
        self.store = Store.memory(settings.node_id, b"cloud", now_ms)
        self.sync = Sync(settings, self.store, self.links, JwtChecker(self.loop, settings))
        self.context = FakeContext(wall_ms=now_ms)
        self.context.behaviour = self.sync
        self.loop.start()

    def handle_arrivals(self) -> None:
        """What its host does at a wake-up."""
        for _, message in self.loop.drain():
            self.context.hand(message)

    def stop(self) -> None:
        self.loop.stop()
        self.store.close()


class Gateway:
    """The asking side: a prober with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.loop = SideLoop("gateway")
        tokens = HttpTokenSource(self.loop, KeyedSecrets(str(folder / "key"), "c1"))
        self.prober = CloudProber(self.loop, tokens)
        self.loop.start()

    def probe(self, cloud: Cloud, ca_pem: str, oauth2: OAuth2) -> dict[str, Any]:
        """Steps by name; meanwhile the cloud handles what arrives."""
        target = CloudTarget("cloud-1", f"127.0.0.1:{cloud.links.port()}", ca_pem)
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
