"""A server certificate of a private CA, for cloud nodes of a playground. Not for real clouds."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entgldb.actors.tls.certificates import key_usage
from entgldb.storage.file.durable import write_whole

VALID: Final = timedelta(days=365)


def make_server_certificate(directory: Path, hosts: Sequence[str]) -> None:
    """Write ``ca.pem``, ``cert.pem`` and ``key.pem`` for ``hosts`` into ``directory``."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _name("entgldb playground CA")
    ca = _sign(_builder(ca_name, ca_name, ca_key.public_key(), ca_key.public_key()), ca_key, None)
    leaf = _builder(_name(hosts[0]), ca_name, key.public_key(), ca_key.public_key())
    write_whole(directory / "ca.pem", ca.public_bytes(Encoding.PEM))
    write_whole(directory / "cert.pem", _sign(leaf, ca_key, hosts).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_whole(directory / "key.pem", private)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(
            issuer, subject, public, x509.random_serial_number(), now - timedelta(days=1), now + VALID
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str] | None
) -> x509.Certificate:
    """A leaf for ``hosts``, or the CA itself where there are none."""
    is_ca = hosts is None
    builder = builder.add_extension(
        x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True
    ).add_extension(key_usage(signs_certificates=is_ca), critical=True)
    if hosts is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(key, SHA256())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
