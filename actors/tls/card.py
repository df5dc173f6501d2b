"""The certificate of a node under one key of its cluster, and the contexts that take only such ones."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from entgldb.actors.tls.certificates import authority, is_ours, issue, key_of, still_good
from entgldb.actors.tls.key_files import good_until_ms, make_key, read_certificate, read_key
from entgldb.messages.secret import Secret
from entgldb.storage.file.durable import write_whole

Kind = TypeVar("Kind", bound=ssl.SSLContext)


class CardContext(ssl.SSLContext):
    """Knows the key of the cluster under which its links are made, also when that is held no more."""

    key_id = ""


class Card:
    """For as long as the node holds the key."""

    def __init__(self, cluster_key: Secret, cluster: str, node_id: str, certificate: Path, key: Path) -> None:
        self._node_id = node_id
        self._authority = authority(cluster_key, cluster)
        self._certificate_file, self._key_file = certificate, key
        self.key_id = self._authority.key.public_key().public_bytes_raw().hex()
        """The public key of the CA, in hex: which of the cluster's keys it is."""
        self.name = f"{self.key_id[:32]}.entgldb"
        """A dialler asks for this certificate by it (server name indication, RFC 6066)."""
        self.server = self._context(ssl.PROTOCOL_TLS_SERVER)
        self.client = self._context(ssl.PROTOCOL_TLS_CLIENT)

    def renew_if_due(self, now: datetime, built: datetime, known: datetime) -> bool:
        """Issue a new leaf at two thirds of the old one's life. See ``LanIdentity.renew_if_due``."""
        key = read_key(self._key_file)
        leaf = None if key is None else read_certificate(self._certificate_file)
        if key is not None and leaf is not None:
            ours = leaf.public_key() == key.public_key() and is_ours(leaf, self._authority, self._node_id)
            if ours and (now < built or still_good(leaf, now)):
                return False
        key = make_key(self._key_file) if key is None else key
        leaf = issue(self._authority, self._node_id, key.public_key(), max(now, built), known)
        write_whole(self._certificate_file, leaf.public_bytes(Encoding.PEM))
        self.use()
        return True

    def use(self) -> None:
        """Show the certificate as its file has it."""
        leaf = read_certificate(self._certificate_file)
        public = None if leaf is None else leaf.public_key()
        self.shown = key_of(public) if isinstance(public, ec.EllipticCurvePublicKey) else ""
        self.good_until_ms = good_until_ms(self._certificate_file)
        for context in (self.server, self.client):
            context.load_cert_chain(self._certificate_file, self._key_file)

    def _context(self, protocol: int) -> CardContext:
        context = modern(CardContext(protocol))
        context.key_id = self.key_id
        # both ends compare the node id in the certificate; host names mean nothing on a LAN
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self._authority.pem)
        return context


def modern(context: Kind) -> Kind:
    """The context, which speaks TLS 1.3 alone from now on."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # links live long: nobody resumes a session
    return context
