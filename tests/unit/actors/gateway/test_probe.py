"""TestPeer's steps, against a peer that speaks the protocol over real TLS and a real authority."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.gateway.probe import CloudProber, run_probe
from entgldb.actors.oauth.client import HttpTokenSource
from entgldb.actors.oauth.http import AuthorityError, request
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.ports import CloudTarget
from entgldb.actors.side_loop import SideLoop
from entgldb.messages import codec, wire
from entgldb.messages.errors import Reason
from entgldb.messages.framing import PREFIX_BYTES, frame, payload_length
from entgldb.messages.local.actors import ProbeDone
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.schema import Channel, Message
from tests.unit.actors.gateway.server_certificate import ServerCertificate, issue_server_certificate
from tests.unit.actors.oauth.authority_process import AuthorityProcess

Reply = Callable[[wire.Hello], Message | None]


@pytest.fixture(scope="module")
def authority() -> Iterator[AuthorityProcess]:
    with AuthorityProcess("gw:s3cret") as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return issue_server_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpTokenSource]:
    monkeypatch.setenv("ENTGLDB_TEST_SECRET", "s3cret")
    loop = SideLoop("test")
    yield HttpTokenSource(loop, KeyedSecrets(str(tmp_path / "key"), "c1"))
    loop.stop()


@pytest.fixture
def oauth2(authority: AuthorityProcess) -> OAuth2:
    return OAuth2(authority.url, "gw", "env:ENTGLDB_TEST_SECRET", ("entgldb:sync",), "cloud")


def hello(ahead_ms: int = 0, node_id: str = "cloud-1") -> wire.Hello:
    now_ms = int(time.time() * 1000) + ahead_ms
    return wire.Hello(1, 1, node_id, f"{node_id}/{'0' * 32}", "", (), now_ms, "cloud")


class Cloud:
    """One listener that answers every Hello with ``reply``."""

    def __init__(self, certificate: ServerCertificate, reply: Reply) -> None:
        self.certificate = certificate
        self.reply = reply
        self.heard: list[Message] = []

    async def probe(
        self, tokens: HttpTokenSource, oauth2: OAuth2, ca_pem: str | None = None
    ) -> dict[str, Any]:
        """Steps by name."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.certificate.context())
        async with server:
            port = server.sockets[0].getsockname()[1]
            trusted = ca_pem or self.certificate.ca_pem
            target = CloudTarget("cloud-1", f"127.0.0.1:{port}", trusted)
            steps = await run_probe(target, oauth2, tokens.fetch)
        assert [step["name"] for step in steps] == ["dns", "tcp", "tls", "token", "hello", "clock"]
        assert all(step["ms"] >= 0 for step in steps)
        return {step["name"]: step for step in steps}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = payload_length(await reader.readexactly(PREFIX_BYTES))
                message = codec.decode(await reader.readexactly(length), Channel.PEER).message
                self.heard.append(message)
                answer = self.reply(message) if isinstance(message, wire.Hello) else None
                if answer is None:
                    break
                writer.write(frame(codec.encode(answer)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


def oks(steps: dict[str, Any]) -> list[str]:
    return [name for name, step in steps.items() if step["ok"]]


def test_a_healthy_peer_passes_every_step(
    certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2
) -> None:
    cloud = Cloud(certificate, lambda _: hello(200))
    steps = asyncio.run(cloud.probe(tokens, oauth2))
    assert oks(steps) == ["dns", "tcp", "tls", "token", "hello", "clock"]
    assert steps["dns"]["detail"] == "127.0.0.1"
    assert steps["tls"]["detail"] == "test authority, 30 d left"
    assert steps["token"]["detail"] == "lives 300 s"
    assert steps["hello"]["detail"] == "protocol 1, role cloud"
    assert steps["clock"]["detail"].startswith("offset +0.")
    said = cloud.heard[0]
    assert isinstance(said, wire.Hello)
    assert said.node_id.startswith("probe-")
    assert said.token.count(".") == 2


def test_a_peer_that_refuses_says_why(
    certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2
) -> None:
    cloud = Cloud(certificate, lambda _: wire.Bye(Reason.TOKEN_REFUSED.value, "no such scope"))
    steps = asyncio.run(cloud.probe(tokens, oauth2))
    assert oks(steps) == ["dns", "tcp", "tls", "token"]
    assert steps["hello"]["detail"] == "refused: token-refused no such scope"
    assert steps["clock"]["detail"].startswith("not tried")


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (lambda _: None, "peer-closed"),
        (lambda _: hello(node_id="cloud-2"), "wrong-node: it calls itself cloud-2"),
        (lambda _: replace(hello(), protocol_min=9, protocol_max=9), "wrong-protocol: protocols 9 to 9"),
        (lambda _: replace(hello(), role="lan"), "wrong-node: cloud-1 is no cloud node"),
        (lambda _: replace(hello(), origin="lan-1/" + "0" * 32), "malformed: the origin"),
        (lambda _: wire.Credential("x"), "the peer did not say Hello"),
    ],
    ids=["closes", "another node", "another protocol", "no cloud", "another origin", "no hello"],
)
def test_what_opens_no_link_fails_the_hello(
    certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2, reply: Reply, detail: str
) -> None:
    steps = asyncio.run(Cloud(certificate, reply).probe(tokens, oauth2))
    assert not steps["hello"]["ok"]
    assert steps["hello"]["detail"].startswith(detail)


def test_a_clock_that_is_far_off_fails_its_step_alone(
    certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2
) -> None:
    steps = asyncio.run(Cloud(certificate, lambda _: hello(-120_000)).probe(tokens, oauth2))
    assert oks(steps) == ["dns", "tcp", "tls", "token", "hello"]
    assert steps["clock"]["detail"].startswith("offset -120.")


def test_without_a_token_nothing_is_said_to_the_peer(
    certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2
) -> None:
    cloud = Cloud(certificate, lambda _: hello())
    secretless = replace(oauth2, client_secret="env:ENTGLDB_TEST_ABSENT")
    steps = asyncio.run(cloud.probe(tokens, secretless))
    assert oks(steps) == ["dns", "tcp", "tls"]
    assert "ENTGLDB_TEST_ABSENT is not set" in steps["token"]["detail"]
    assert cloud.heard == []


def test_an_untrusted_certificate_fails_tls_and_the_token_is_still_tried(
    tmp_path: Path, certificate: ServerCertificate, tokens: HttpTokenSource, oauth2: OAuth2
) -> None:
    foreign = issue_server_certificate(tmp_path)
    cloud = Cloud(certificate, lambda _: hello())
    steps = asyncio.run(cloud.probe(tokens, oauth2, foreign.ca_pem))
    assert oks(steps) == ["dns", "tcp", "token"]
    assert steps["tls"]["detail"].startswith("tls-refused")
    assert cloud.heard == []


def test_a_name_that_does_not_resolve_stops_the_rest(tokens: HttpTokenSource, oauth2: OAuth2) -> None:
    async def run() -> list[Any]:
        return await run_probe(CloudTarget("cloud-1", "nobody.invalid:1", ""), oauth2, tokens.fetch)

    steps = asyncio.run(run())
    assert [(step["name"], step["ok"]) for step in steps][:3] == [
        ("dns", False),
        ("tcp", False),
        ("tls", False),
    ]
    assert steps[0]["detail"].startswith("unreachable")


def test_the_prober_posts_one_outcome_with_its_ticket(
    authority: AuthorityProcess, oauth2: OAuth2, tmp_path: Path
) -> None:
    loop = SideLoop("test")
    loop.start()
    try:
        tokens = HttpTokenSource(loop, KeyedSecrets(str(tmp_path / "key"), "c1"))
        CloudProber(loop, tokens).probe(5, CloudTarget("cloud-1", "127.0.0.1:1", ""), oauth2)
        ready, _, _ = select.select([loop], [], [], 20)
        assert ready, "nothing was posted"
        [(_, done)] = loop.drain()
        assert isinstance(done, ProbeDone)
        assert (done.ticket, len(done.steps)) == (5, 6)
    finally:
        loop.stop()


# --- the same certificates for an authorization server behind https ---------------------------------


async def https_answer(certificate: ServerCertificate, ca_pem: str) -> bytes:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.context())
    async with server:
        port = server.sockets[0].getsockname()[1]
        return (await request(f"https://localhost:{port}/", ca_pem=ca_pem)).body


def test_https_is_verified_against_the_given_authority_alone(
    tmp_path: Path, certificate: ServerCertificate
) -> None:
    assert asyncio.run(https_answer(certificate, certificate.ca_pem)) == b"{}"
    for untrusted in ("", issue_server_certificate(tmp_path).ca_pem):
        with pytest.raises(AuthorityError, match="is not trusted") as fault:
            asyncio.run(https_answer(certificate, untrusted))
        assert fault.value.reason is Reason.AUTHORITY_UNREACHABLE


def test_an_expired_certificate_is_not_trusted(tmp_path: Path) -> None:
    expired = issue_server_certificate(tmp_path, days=-1)
    with pytest.raises(AuthorityError, match="expired"):
        asyncio.run(https_answer(expired, expired.ca_pem))


def test_a_ca_that_is_no_pem_is_named(certificate: ServerCertificate) -> None:
    with pytest.raises(AuthorityError, match="caPem"):
        asyncio.run(https_answer(certificate, "nonsense"))
