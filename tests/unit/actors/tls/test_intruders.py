"""Who does not hold the cluster key never gets a link, whatever they show: not one byte of theirs is parsed.

All kinds knock at one and the same listener; afterwards a member is let in as ever.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entgldb.actors.tls.certificates import Authority, authority, key_usage
from entgldb.actors.tls.links import TlsLinks
from entgldb.messages import codec
from entgldb.messages.errors import Reason
from entgldb.messages.framing import frame
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp
from entgldb.messages.secret import Secret
from tests.unit.actors.tls.links_rig import BEAT, KEY, Node, identity

OURS, OTHERS = authority(KEY), authority(Secret(bytes(32)))
NOW = datetime.now(UTC)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
MESSAGE = frame(codec.encode(BEAT))
URI = f"entgldb://{OURS.cluster}/node/evil"


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def self_made() -> Authority:
    """Another key under exactly the name of our CA."""
    key = Ed25519PrivateKey.generate()
    subject = OURS.certificate.subject
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW - timedelta(1), NOW + timedelta(9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(OURS.key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(OURS.key.public_key()), critical=False
        )
        .sign(key, None)
    )
    return Authority(key, certificate, OURS.cluster)


def leaf(
    folder: Path,
    ca: Authority,
    *,
    uris: Sequence[str] = (URI,),
    days: tuple[float, float] = (-1, 1),
    uses: Sequence[x509.ObjectIdentifier] = BOTH,
    is_ca: bool = False,
    key: Any = None,
    signed_by: Any = None,
) -> ssl.SSLContext:
    """A client that shows a leaf which is good but for what is said here."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder(
            ca.certificate.subject,
            name("evil"),
            key.public_key(),
            x509.random_serial_number(),
            NOW + timedelta(days[0]),
            NOW + timedelta(days[1]),
        )
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
    )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = signed_by or ca.key
    made = builder.sign(signer, None if isinstance(signer, Ed25519PrivateKey) else SHA256())
    return showing(folder, made.public_bytes(Encoding.PEM), key)


def showing(folder: Path, chain: bytes, key: Any) -> ssl.SSLContext:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = naked()
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context


def naked(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # an intruder allows itself everything
    context.minimum_version = context.maximum_version = version
    return context


def below_a_member(folder: Path) -> ssl.SSLContext:
    """A certificate issued by the leaf of a true member, its chain shown with it."""
    member = identity(folder / "member", "lan-9")
    issuer = x509.load_pem_x509_certificate((folder / "member" / "node.crt").read_bytes())
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    issuer_key = load_pem_private_key((folder / "member" / "node.key").read_bytes(), None)
    assert member.cluster == OURS.cluster
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder(
            issuer.subject, name("evil"), key.public_key(), 7, NOW - timedelta(1), NOW + timedelta(1)
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(BOTH), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )  # type: ignore[arg-type]  # a leaf's key is P-256
        .sign(issuer_key, SHA256())  # type: ignore[arg-type]  # the same
    )
    return showing(folder, made.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM), key)


Intruder = Callable[[Path], ssl.SSLContext]
FORGED: dict[str, Intruder] = {
    "no certificate": lambda folder: naked(),
    "TLS 1.2": lambda folder: naked(ssl.TLSVersion.TLSv1_2),
    "another cluster's member": lambda folder: identity(folder / "o", "lan-2", Secret(bytes(32))).client,
    "another CA under our CA's name": lambda folder: leaf(folder, self_made()),
    "our CA's name, another's signature": lambda folder: leaf(folder, OURS, signed_by=OTHERS.key),
    "signed by its own key": lambda folder: _self_signed(folder),
    "issued by a member's leaf": below_a_member,
    "expired": lambda folder: leaf(folder, OURS, days=(-9, -1)),
    "not yet valid": lambda folder: leaf(folder, OURS, days=(1, 9)),
    "for servers alone": lambda folder: leaf(folder, OURS, uses=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "for e-mail alone": lambda folder: leaf(folder, OURS, uses=(ExtendedKeyUsageOID.EMAIL_PROTECTION,)),
    "a CA itself": lambda folder: leaf(folder, OURS, is_ca=True),
    "without a name": lambda folder: leaf(folder, OURS, uris=()),
    "of another cluster by name": lambda folder: leaf(folder, OURS, uris=("entgldb://feed/node/evil",)),
    "of another scheme": lambda folder: leaf(folder, OURS, uris=(URI.replace("entgldb:", "https:"),)),
    "with an empty node id": lambda folder: leaf(folder, OURS, uris=(f"entgldb://{OURS.cluster}/node/",)),
    "with a path for a node id": lambda folder: leaf(folder, OURS, uris=(URI + "%2F..%2Fx",)),
    "with a line end in the node id": lambda folder: leaf(folder, OURS, uris=(URI + "%0Ax",)),
    "with NUL in the node id": lambda folder: leaf(folder, OURS, uris=(URI + "%00.lan-1",)),
    "of two nodes": lambda folder: leaf(folder, OURS, uris=(URI, URI + "2")),
    "with a short RSA key": lambda folder: leaf(folder, OURS, key=rsa.generate_private_key(65537, 1024)),
}  # fmt: skip
PLAIN: dict[str, bytes] = {
    "a message without TLS": MESSAGE,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "zeros": bytes(4096),
    "a hello of 16 KiB that is none": b"\x16\x03\x01\x40\x00" + b"\1" * 16_384,
    "a hello cut short": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(20),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data first": b"\x17\x03\x03\x00\x20" + bytes(32),
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
}


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    return leaf(folder, OURS, key=key, signed_by=key)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    who = identity(tmp_path_factory.mktemp("lan-1"), "lan-1")
    made = Node(lambda loop: TlsLinks(loop, lan=who, listen="127.0.0.1:0"))
    yield made
    made.loop.stop()


def knock(node: Node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.links.port()), timeout=15)


def refused_next(node: Node, downs: int) -> None:
    """The link is told as down, with a reason, and never was up."""
    node.until(lambda: len(node.of(LinkDown)) > downs)
    down = node.of(LinkDown)[-1]
    assert isinstance(down, LinkDown)
    assert down.reason in (Reason.TLS_REFUSED, Reason.CLOCK, Reason.PEER_CLOSED)
    assert down.text.isprintable()
    assert not node.of(LinkUp)
    assert not node.of(FrameIn)


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_or_foreign_certificate_gets_no_link(node: Node, tmp_path: Path, kind: str) -> None:
    downs = len(node.of(LinkDown))
    try:
        with FORGED[kind](tmp_path).wrap_socket(knock(node)) as link:
            link.sendall(MESSAGE * 3)
            assert link.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        pass  # refused in the handshake, or by the alert behind it (RFC 8446, 4.4.2.4)
    refused_next(node, downs)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_no_tls_gets_no_link(node: Node, kind: str) -> None:
    downs = len(node.of(LinkDown))
    with knock(node) as plain:
        plain.sendall(PLAIN[kind])
        plain.shutdown(socket.SHUT_WR)
        refused_next(node, downs)


def test_there_are_many_kinds_and_a_member_is_let_in_after_all_of_them(node: Node, tmp_path: Path) -> None:
    print(f"{len(FORGED) + len(PLAIN)} kinds of intruders")
    assert len(FORGED) + len(PLAIN) >= 25
    with identity(tmp_path / "m", "lan-2").client.wrap_socket(knock(node)):
        assert node.up().node_id == "lan-2"
    node.seen.clear()
