"""The identity of a node on the network: its certificate, the TLS contexts, and why a handshake failed."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from entgldb._version import BUILT_MS
from entgldb.actors.cluster_key import read_cluster_key
from entgldb.actors.tls.certificates import authority, is_ours, issue, key_of, node_id_in, still_good
from entgldb.messages.errors import ConfigError, ProtocolError, Reason
from entgldb.storage.file.durable import write_whole

NOT_YET_VALID: Final = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID."""
HAS_EXPIRED: Final = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""
KEY_NAME: Final = "node.key"
_BUILT: Final = datetime.fromtimestamp(BUILT_MS / 1000, UTC)

log = logging.getLogger(__name__)


class LanIdentity:
    """A member of a cluster: a leaf of the cluster's CA, and contexts that accept only such leaves."""

    def __init__(
        self,
        directory: Path,
        cluster_key: bytes,
        node_id: str,
        now: datetime | None = None,
        known_ms: int = 0,
    ) -> None:
        """The identity kept in ``directory``, made there first where it is missing, foreign or old.

        ``known_ms``: the latest stamp that this node has stored.
        """
        self.node_id = node_id
        self._known = datetime.fromtimestamp(known_ms / 1000, UTC)
        self._authority = authority(cluster_key)
        self.cluster = self._authority.cluster
        self._key_file, self._certificate_file = directory / KEY_NAME, directory / "node.crt"
        self.server = self._context(ssl.PROTOCOL_TLS_SERVER)
        self.client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        if not self.renew_if_due(now):
            self._use()

    @classmethod
    def load(
        cls,
        directory: str | Path,
        cluster_key_file: str | Path,
        node_id: str,
        now: datetime | None = None,
        known_ms: int = 0,
    ) -> LanIdentity:
        """The same with the key read from its file. Raises ConfigError where that cannot be."""
        try:
            key = read_cluster_key(cluster_key_file)
        except OSError as fault:
            raise ConfigError(
                f"the cluster key {cluster_key_file} cannot be read: {fault.strerror}"
            ) from None
        return cls(Path(directory), key, node_id, now, known_ms)

    def renew_if_due(self, now: datetime | None = None) -> bool:
        """Issue a new leaf at two thirds of the old one's life; links made from now on show it.

        A clock from before this release does not know the time: it replaces no leaf of ours, and where there
        is none, makes one as of the release that is good for the latest time that was stored, too.
        """
        now = datetime.fromtimestamp(time.time(), UTC) if now is None else now
        key = read_key(self._key_file)
        leaf = None if key is None else read_certificate(self._certificate_file)
        if key is not None and leaf is not None:
            ours = leaf.public_key() == key.public_key() and is_ours(leaf, self._authority, self.node_id)
            if ours and (now < _BUILT or still_good(leaf, now)):
                return False
        key = make_key(self._key_file) if key is None else key
        leaf = issue(self._authority, self.node_id, key.public_key(), max(now, _BUILT), self._known)
        write_whole(self._certificate_file, leaf.public_bytes(Encoding.PEM))
        self._use()
        return True

    def peer_of(self, certificate: dict[str, Any] | None) -> str:
        """The node id in a verified peer certificate, as ``getpeercert()`` gives it. Raises ProtocolError."""
        names = (certificate or {}).get("subjectAltName", ())
        # one that named two nodes could be either of them
        kind, name = names[0] if len(names) == 1 else ("", "")
        node_id = node_id_in(name, self.cluster) if kind == "URI" else None
        if node_id is None:
            raise ProtocolError("the certificate of the peer names no node of this cluster, or several")
        return node_id

    @staticmethod
    def key_shown(certificate: bytes | None) -> str:
        """The key of a verified peer certificate in DER. Raises ProtocolError."""
        public = None if certificate is None else x509.load_der_x509_certificate(certificate).public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ProtocolError("the certificate of the peer has no key on an elliptic curve")
        return key_of(public)

    def _use(self) -> None:
        leaf = read_certificate(self._certificate_file)
        public = None if leaf is None else leaf.public_key()
        self.key = key_of(public) if isinstance(public, ec.EllipticCurvePublicKey) else ""
        self.good_until_ms = _good_until_ms(self._certificate_file)
        for context in (self.server, self.client):
            context.load_cert_chain(self._certificate_file, self._key_file)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = _modern(protocol)
        # both ends compare the node id in the certificate; host names mean nothing on a LAN
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self._authority.pem)
        return context


class ServerIdentity:
    """A cloud node: an ordinary server certificate. Gateways prove themselves by token instead.

    A renewal of the certificate (ACME, RFC 8555) replaces the files and need not stop the node.
    """

    def __init__(self, certificate_file: str | Path, key_file: str | Path) -> None:
        """Raises ConfigError when the files are missing or do not belong together."""
        self._files = Path(certificate_file), Path(key_file)
        self._seen = self._look()
        self._context = self._read()

    @property
    def server(self) -> ssl.SSLContext:
        """For the next link: of the files as they are now, or as they were while they could be used."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = self._read()
                log.info("the certificate %s was read again", self._files[0])
            except ConfigError as fault:  # one of the two may still be on its way
                log.warning("the certificate of before is used: %s", fault.text)
        return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stat(file) for file in self._files]

    def _read(self) -> ssl.SSLContext:
        context = _modern(ssl.PROTOCOL_TLS_SERVER)
        certificate_file, key_file = self._files
        self.good_until_ms = _good_until_ms(certificate_file)
        try:
            # an encrypted key is refused here instead of asking at the terminal
            context.load_cert_chain(certificate_file, key_file, password=lambda: b"")
        except (OSError, ValueError) as fault:
            raise ConfigError(f"tls_cert {certificate_file}, tls_key {key_file}: {fault}") from None
        return context


def cloud_context(ca_pem: str = "") -> ssl.SSLContext:
    """For dialling a cloud peer: host name and chain are verified, against ``ca_pem`` alone if given.

    Raises ssl.SSLError when ``ca_pem`` holds no certificate.
    """
    context = _modern(ssl.PROTOCOL_TLS_CLIENT)
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def classify(fault: BaseException) -> tuple[Reason, str]:
    """Why a link could not be opened, or broke: a word to count and a sentence for a person."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        if fault.verify_code in (NOT_YET_VALID, HAS_EXPIRED):
            return Reason.CLOCK, f"{fault.verify_message}: compare the clocks of both nodes"
        return Reason.TLS_REFUSED, f"we refused the certificate of the peer: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        word = fault.reason or str(fault)
        if "CERTIFICATE_EXPIRED" in word:
            return Reason.CLOCK, "the peer calls our certificate expired: compare the clocks of both nodes"
        if "ALERT" in word:
            return Reason.TLS_REFUSED, f"the peer refused us: {word}"
        return Reason.TLS_REFUSED, f"no TLS handshake: {word}"
    if isinstance(fault, ConnectionAbortedError) and "handshake" in str(fault):
        return Reason.HANDSHAKE_TIMEOUT, "the peer did not finish the TLS handshake in time"
    if isinstance(fault, TimeoutError):
        return Reason.UNREACHABLE, "no answer in time"
    if isinstance(fault, ProtocolError):
        return Reason.TLS_REFUSED, fault.text
    if isinstance(fault, socket.gaierror):
        return Reason.UNREACHABLE, f"the name does not resolve: {fault.strerror}"
    if isinstance(fault, ConnectionResetError | BrokenPipeError):
        return Reason.PEER_CLOSED, "the peer broke the connection"
    return Reason.UNREACHABLE, f"{getattr(fault, 'strerror', None) or fault or type(fault).__name__}"


def _modern(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # links live long: nobody resumes a session
    return context


def _good_until_ms(file: Path) -> int:
    leaf = read_certificate(file)
    return 0 if leaf is None else int(leaf.not_valid_after_utc.timestamp() * 1000)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


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
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def read_certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
