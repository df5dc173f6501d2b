"""Dialling a cloud peer: ordinary certificates, verified by chain and name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from entgldb.actors.ports import CloudTarget
from entgldb.actors.tls.identity import ServerIdentity
from entgldb.actors.tls.links import TlsLinks
from entgldb.messages.errors import ConfigError, Reason
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp
from tests.unit.actors.tls.links_rig import BEAT, Node


def cloud_certificate(folder: Path, name: str) -> str:
    """An ordinary self-signed server certificate for ``name``; its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem.decode()


@pytest.mark.parametrize(
    ("name", "trusted", "reason"),
    [
        ("localhost", True, None),
        ("elsewhere.example.com", True, Reason.TLS_REFUSED),
        ("localhost", False, Reason.TLS_REFUSED),
    ],
)
def test_a_cloud_peer_is_verified_by_chain_and_name(
    tmp_path: Path, name: str, trusted: bool, reason: Reason | None
) -> None:
    pem = cloud_certificate(tmp_path, name)
    server = ServerIdentity(tmp_path / "tls.crt", tmp_path / "tls.key")
    cloud = Node(lambda loop: TlsLinks(loop, server=server, listen="127.0.0.1:0"))
    gateway = Node(lambda loop: TlsLinks(loop))
    target = CloudTarget("cloud-1", f"localhost:{cloud.links.port()}", pem if trusted else "")
    link = gateway.links.dial_cloud(target)
    if reason is None:
        assert (gateway.up().link, gateway.up().node_id, cloud.up().node_id) == (link, "", "")
        gateway.links.send(link, BEAT)
        cloud.expect(FrameIn)
    else:
        assert gateway.down().reason == reason
        assert not gateway.of(LinkUp)
    gateway.loop.stop()
    cloud.loop.stop()


def test_a_renewed_certificate_is_used_from_the_next_link_on(tmp_path: Path) -> None:
    old = cloud_certificate(tmp_path, "localhost")
    server = ServerIdentity(tmp_path / "tls.crt", tmp_path / "tls.key")
    cloud = Node(lambda loop: TlsLinks(loop, server=server, listen="127.0.0.1:0"))
    gateway = Node(lambda loop: TlsLinks(loop))

    def dial(trusted: str) -> str:
        gateway.links.dial_cloud(CloudTarget("cloud-1", f"localhost:{cloud.links.port()}", trusted))
        gateway.until(lambda: gateway.of(LinkUp) or gateway.of(LinkDown))
        outcome, gateway.seen = "up" if gateway.of(LinkUp) else "refused", []
        return outcome

    assert dial(old) == "up"
    key = (tmp_path / "tls.key").read_bytes()
    new = cloud_certificate(tmp_path, "localhost")
    fresh = (tmp_path / "tls.key").read_bytes()
    (tmp_path / "tls.key").write_bytes(key)
    assert dial(old) == "up", "while the two files do not belong together"
    (tmp_path / "tls.key").write_bytes(fresh)
    assert dial(old) == "refused"
    assert dial(new) == "up"
    gateway.loop.stop()
    cloud.loop.stop()


def test_a_broken_ca_pem_ends_in_link_down() -> None:
    gateway = Node(lambda loop: TlsLinks(loop))
    gateway.links.dial_cloud(CloudTarget("cloud-1", "localhost:9", "no certificate"))
    down = gateway.down()
    assert down.reason == Reason.TLS_REFUSED
    assert "caPem" in down.text
    with pytest.raises(ConfigError, match="cluster key"):
        gateway.links.dial("127.0.0.1:9")
    gateway.loop.stop()
