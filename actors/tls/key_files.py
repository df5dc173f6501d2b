"""The files of a node's own key and certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from entgldb.actors.tls.certificates import key_of
from entgldb.storage.file.durable import write_whole

KEY_NAME: Final = "node.key"


def make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new key of a node, kept in its file. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def key_in(directory: Path) -> str:
    """The key by which others know the node in ``directory``, SHA-256 in hex; it is made where there is none.

    Raises OSError.
    """
    path = directory / KEY_NAME
    return key_of((read_key(path) or make_key(path)).public_key())


def read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """The private key in a file; None where it holds none of the right kind."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def read_certificate(path: Path) -> x509.Certificate | None:
    """The certificate in a file; None where it holds none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def good_until_ms(path: Path) -> int:
    """The end of the certificate in a file, in milliseconds since 1970; 0: there is none."""
    leaf = read_certificate(path)
    return 0 if leaf is None else int(leaf.not_valid_after_utc.timestamp() * 1000)
