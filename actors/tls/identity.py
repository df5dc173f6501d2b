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

from entgldb._version import BUILT_MS
from entgldb.actors.cluster_key import ClusterKeys, KeyFile, Keys
from entgldb.actors.tls.card import Card, CardContext, modern
from entgldb.actors.tls.certificates import key_of, name_of, node_id_in
from entgldb.actors.tls.key_files import KEY_NAME, good_until_ms
from entgldb.messages.errors import ConfigError, ProtocolError, Reason

NOT_YET_VALID: Final = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID."""
HAS_EXPIRED: Final = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""
_BUILT: Final = datetime.fromtimestamp(BUILT_MS / 1000, UTC)

log = logging.getLogger(__name__)


class LanIdentity:
    """A member of a cluster: for each of its keys a leaf of that CA, and contexts that accept only such."""

    def __init__(
        self,
        directory: Path,
        keys: Keys,
        node_id: str,
        now: datetime | None = None,
        known_ms: int = 0,
    ) -> None:
        """The identity kept in ``directory``, made there first where it is missing, foreign or old.

        ``known_ms``: the latest stamp that this node has stored.
        """
        self.node_id = node_id
        self._keys = keys
        self._known = datetime.fromtimestamp(known_ms / 1000, UTC)
        self._directory = directory
        self.cluster = name_of(keys())
        self._made = keys()
        self._cards = self._make(self._made, now)

    @classmethod
    def load(
        cls,
        directory: str | Path,
        cluster_key_file: str | Path,
        node_id: str,
        now: datetime | None = None,
        known_ms: int = 0,
    ) -> LanIdentity:
        """The same with the keys as their file has them. Raises ConfigError where that cannot be."""
        try:
            file = KeyFile(cluster_key_file)
        except OSError as fault:
            raise ConfigError(
                f"the cluster key {cluster_key_file} cannot be read: {fault.strerror}"
            ) from None
        return cls(Path(directory), lambda: file.keys, node_id, now, known_ms)

    @property
    def cards(self) -> tuple[Card, ...]:
        """One for each key that this node holds; that of the key that counts is the first."""
        keys = self._keys()
        if keys != self._made:
            try:
                self._cards, self._made = self._make(keys, None), keys
                log.info("this node shows certificates under %d keys of its cluster", len(keys.keys))
            except OSError as fault:
                log.warning("no certificate under another cluster key yet: %s", fault)
        return self._cards

    @property
    def server(self) -> ssl.SSLContext:
        """For the next link that comes in: it shows the certificate that the dialler asks for."""
        return self.cards[0].server

    @property
    def client(self) -> ssl.SSLContext:
        """For a dial by the key that counts."""
        return self.cards[0].client

    @property
    def key(self) -> str:
        """Of the certificates, SHA-256 in hex: one key for all."""
        return self._cards[0].shown

    @property
    def good_until_ms(self) -> int:
        """The end of the certificate under the key that counts."""
        return self._cards[0].good_until_ms

    def renew_if_due(self, now: datetime | None = None) -> bool:
        """Issue a new leaf at two thirds of the old one's life; links made from now on show it.

        A clock from before this release does not know the time: it replaces no leaf of ours, and where there
        is none, makes one as of the release that is good for the latest time that was stored, too.
        """
        now = datetime.fromtimestamp(time.time(), UTC) if now is None else now
        renewed = [card.renew_if_due(now, _BUILT, self._known) for card in self.cards]
        return any(renewed)

    @staticmethod
    def key_id_of(context: ssl.SSLContext) -> str:
        """The cluster key under which a link of this context was made, held or not; empty: none was."""
        return context.key_id if isinstance(context, CardContext) else ""

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

    def _make(self, keys: ClusterKeys, now: datetime | None) -> tuple[Card, ...]:
        now = datetime.fromtimestamp(time.time(), UTC) if now is None else now
        made = []
        for number, key in enumerate(keys.keys):
            file = self._directory / (f"node.{number}.crt" if number else "node.crt")
            card = Card(key, self.cluster, self.node_id, file, self._directory / KEY_NAME)
            if not card.renew_if_due(now, _BUILT, self._known):
                card.use()
            # ssl calls it with the name that the dialler asks for
            card.server.sni_callback = self._choose
            made.append(card)
        return tuple(made)

    def _choose(self, link: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        card = next((card for card in self._cards if card.name == name), None)
        if card is not None:
            link.context = card.server


class ServerIdentity:
    """A cloud node: an ordinary server certificate. Gateways prove themselves by token instead.

    A renewal of the certificate (ACME, RFC 8555) replaces the files and need not stop the node.
    """

    def __init__(self, certificate_file: str | Path, key_file: str | Path) -> None:
        """Raises ConfigError when the files are missing or do not belong together."""
        self._files = Path(certificate_file), Path(key_file)
        self._seen = self._look()
        self._shown = self._read()

    @property
    def server(self) -> ssl.SSLContext:
        """For the next link: of the files as they are now, or as they were while they could be used."""
        return self._now()[0]

    @property
    def good_until_ms(self) -> int:
        """The end of the certificate that the next link is shown, also where none comes for days."""
        return self._now()[1]

    def _now(self) -> tuple[ssl.SSLContext, int]:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._shown = self._read()
                log.info("the certificate %s was read again", self._files[0])
            except ConfigError as fault:  # one of the two may still be on its way
                log.warning("the certificate of before is used: %s", fault.text)
        return self._shown

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stat(file) for file in self._files]

    def _read(self) -> tuple[ssl.SSLContext, int]:
        context = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        certificate_file, key_file = self._files
        try:
            # an encrypted key is refused here instead of asking at the terminal
            context.load_cert_chain(certificate_file, key_file, password=lambda: b"")
        except (OSError, ValueError) as fault:
            raise ConfigError(f"tls_cert {certificate_file}, tls_key {key_file}: {fault}") from None
        return context, good_until_ms(certificate_file)


def cloud_context(ca_pem: str = "") -> ssl.SSLContext:
    """For dialling a cloud peer: host name and chain are verified, against ``ca_pem`` alone if given.

    Raises ssl.SSLError when ``ca_pem`` holds no certificate.
    """
    context = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
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


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
