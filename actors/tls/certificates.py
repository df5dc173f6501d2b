"""From the cluster key to certificates: a node that holds the key is a member, and no other node is.

The CA is derived, not stored: Ed25519 from HKDF-SHA256 (RFC 5869) of the cluster key, and as Ed25519
signs deterministically (RFC 8032), every node makes the very same certificate of it. The leaf of a
node is P-256 and issued by the node itself. All certificates pass OpenSSL's strict checks (RFC 5280).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entgldb.actors.cluster_key import CLUSTER_KEY_BYTES, ClusterKeys
from entgldb.messages.errors import ConfigError, EntglError
from entgldb.messages.model import check_node_id
from entgldb.messages.secret import Secret
from entgldb.storage.rules.authorship import cluster_of

BACKDATED: Final = timedelta(days=30)
"""A leaf is valid from so long before its issue, for peers whose clocks are behind."""
VALID: Final = timedelta(days=90)
"""A leaf is valid for so long after its issue."""
RENEW_AFTER: Final = VALID * 2 / 3
FIRST_DAY: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)
_SERVES: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)
_UNUSED: Final = [
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
]


class Authority(NamedTuple):
    """The CA of a cluster."""

    key: Ed25519PrivateKey
    certificate: x509.Certificate
    cluster: str

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


def authority(cluster_key: Secret, cluster: str = "") -> Authority:
    """The CA that follows from a cluster key. Raises ConfigError for a key of the wrong size.

    ``cluster``: its name for good; empty: the one that the key makes.
    """
    key = ca_key(cluster_key)
    cluster = cluster or _name(key)
    name = _common_name(f"entgldb {cluster}")
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder(name, name, public, 1, FIRST_DAY, LAST_DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, None)
    )
    return Authority(key, certificate, cluster)


def cluster_name(cluster_key: Secret) -> str:
    """The first 16 hex digits of SHA-256(CA public key): tells clusters apart, gives nothing away."""
    return _name(ca_key(cluster_key))


def name_of(keys: ClusterKeys) -> str:
    """The name of the cluster whose keys these are."""
    return keys.name or cluster_name(keys.keys[0])


def ca_keys(keys: ClusterKeys) -> tuple[bytes, ...]:
    """The public keys of the CAs that follow from them."""
    return tuple(ca_key(key).public_key().public_bytes_raw() for key in keys.keys)


def issue(
    ca: Authority, node_id: str, public: EllipticCurvePublicKey, now: datetime, known: datetime
) -> x509.Certificate:
    """A leaf for ``node_id``, for both ends of a link; good at ``now`` and at ``known``, if that is later."""
    valid, purposes = (now - BACKDATED, max(now, known) + VALID), [*_SERVES, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _leaf(ca, node_id, [_of_node(ca, node_id)], public, valid, purposes)


def issue_for_names(
    ca: Authority, node_id: str, names: Sequence[str], public: EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """A leaf for a server that others than nodes ask by one of ``names``, host names and addresses."""
    return _leaf(
        ca, node_id, [_general(name) for name in names], public, (now - BACKDATED, now + VALID), _SERVES
    )


def is_for_names(leaf: x509.Certificate, ca: Authority, names: Sequence[str]) -> bool:
    """Whether a leaf found on disk is this CA's and for exactly these names."""
    return _names(leaf, ca) == [_general(name) for name in names]


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _leaf(
    ca: Authority,
    node_id: str,
    sans: Sequence[x509.GeneralName],
    public: EllipticCurvePublicKey,
    valid: tuple[datetime, datetime],
    purposes: Sequence[x509.ObjectIdentifier],
) -> x509.Certificate:
    ca_public = ca.key.public_key()
    issuer, subject = ca.certificate.subject, _common_name(node_id)
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), *valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public), critical=False)
        .sign(ca.key, None)
    )


def is_ours(leaf: x509.Certificate, ca: Authority, node_id: str) -> bool:
    """Whether a leaf found on disk is this CA's and this node's."""
    return _names(leaf, ca) == [_of_node(ca, node_id)]


def _names(leaf: x509.Certificate, ca: Authority) -> list[x509.GeneralName] | None:
    """Whom a leaf of this CA is for; None for any other, and for one that cannot be read."""
    try:
        leaf.verify_directly_issued_by(ca.certificate)
        return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except Exception:  # noqa: BLE001 -- whatever is wrong with the file, a new leaf mends it
        return None


def _of_node(ca: Authority, node_id: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(_uri(ca.cluster, node_id))


def still_good(leaf: x509.Certificate, now: datetime) -> bool:
    """Whether a leaf is valid and not yet due for renewal."""
    return leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc - VALID + RENEW_AFTER


def key_of(public: EllipticCurvePublicKey) -> str:
    """The SHA-256 of a SubjectPublicKeyInfo (RFC 5280), in hex: what a member is known by."""
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def node_id_in(uri: str, cluster: str) -> str | None:
    """The node id in the URI of a leaf, or None when it is another cluster's or malformed."""
    prefix = _uri(cluster, "")
    if not uri.startswith(prefix):
        return None
    try:
        return check_node_id(unquote(uri.removeprefix(prefix)))
    except EntglError:
        return None


def _uri(cluster: str, node_id: str) -> str:
    return f"entgldb://{cluster}/node/{quote(node_id, safe='')}"


def ca_key(cluster_key: Secret) -> Ed25519PrivateKey:
    """The private key of the CA. Raises ConfigError for a key of the wrong size."""
    if len(cluster_key) != CLUSTER_KEY_BYTES:
        raise ConfigError(f"a cluster key has {CLUSTER_KEY_BYTES} bytes, this one {len(cluster_key)}")
    seed = HKDF(SHA256(), 32, salt=b"entgldb", info=b"cluster-ca v1").derive(cluster_key.reveal())
    return Ed25519PrivateKey.from_private_bytes(seed)


def _name(key: Ed25519PrivateKey) -> str:
    return cluster_of(key.public_key().public_bytes_raw())


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """The uses of a key, in the form that VERIFY_X509_STRICT wants (RFC 5280, section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **dict.fromkeys(_UNUSED, False),
    )
