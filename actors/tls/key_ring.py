"""Implements ``ports.KeyRing``: the cluster keys in their file, and the box in which a node gets new ones.

The box is the base mode of HPKE (RFC 9180): X25519, HKDF-SHA256, AES-256-GCM. Its private key follows from
the node's own key by HKDF (RFC 5869), so that it lies in no other file: a machine that has the name of the
node, but not its key, cannot open it. The node's own key, by which its certificates are pinned, signs the box
(ECDSA, SHA-256): nobody else can tell another one for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from entgldb.actors.cluster_key import CLUSTER_KEY_BYTES, ClusterKeys, KeyFile
from entgldb.actors.tls.attestation import CaOfCluster, renewal
from entgldb.actors.tls.certificates import ca_keys, cluster_name, key_of, name_of
from entgldb.actors.tls.key_files import KEY_NAME, make_key, read_key
from entgldb.messages.limits import MEMBERS_MAX
from entgldb.messages.model import Author
from entgldb.messages.secret import Secret
from entgldb.storage.file.durable import write_whole

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_ECDSA: Final = ec.ECDSA(SHA256())
_PROOF: Final = re.compile(r"(?:[0-9a-f]{2}){1,256}:(?:[0-9a-f]{2}){1,80}")
"""A SubjectPublicKeyInfo (RFC 5280) and a signature."""


@lru_cache(MEMBERS_MAX)
def _is_signed(shown: bytes, signature: bytes, statement: bytes) -> bool:
    """Kept, as the store looks at the boxes of all members whenever the configuration has changed."""
    try:
        public = load_der_public_key(shown)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(signature, statement, _ECDSA)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def id_of(key: Secret) -> str:
    """The id of a cluster key: the public key of its CA, in hex."""
    return ca_keys(ClusterKeys((key,)))[0].hex()


class FileRing:
    """The keys of a node of the LAN."""

    def __init__(self, directory: str | Path, file: KeyFile) -> None:
        self._file = file
        self._ca = CaOfCluster(lambda: file.keys)
        key_file = Path(directory) / KEY_NAME
        self._own = own = read_key(key_file) or make_key(key_file)
        secret = own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        seed = HKDF(SHA256(), 32, salt=b"entgldb", info=b"box v1").derive(secret)
        self._box = X25519PrivateKey.from_private_bytes(seed)

    @property
    def box(self) -> str:
        """Follows from the node's own key."""
        return self._box.public_key().public_bytes_raw().hex()

    def proof(self, node_id: str, before: str) -> str:
        # a signature of ECDSA is another one each time: the row of the node would never come to rest
        public = self._own.public_key()
        if self.proves(before, self.box, node_id, key_of(public)):
            return before
        shown = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"{shown.hex()}:{self._own.sign(self._box_statement(self.box, node_id), _ECDSA).hex()}"

    def proves(self, proof: str, box: str, node_id: str, pinned: str) -> bool:
        if not _PROOF.fullmatch(proof):
            return False
        shown, signature = map(bytes.fromhex, proof.split(":"))
        its_own = sha256(shown).hexdigest() == pinned
        return its_own and _is_signed(shown, signature, self._box_statement(box, node_id))

    def held(self) -> tuple[str, ...]:
        return tuple(key.hex() for key in ca_keys(self._file.keys))

    def is_first(self) -> bool:
        keys = self._file.keys
        return name_of(keys) == cluster_name(keys.keys[0])

    def new(self) -> tuple[str, Secret]:
        made = Secret(os.urandom(CLUSTER_KEY_BYTES))
        return id_of(made), made

    def seal(self, key: Secret, box: str, node_id: str) -> str:
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(box))
        return _SUITE.encrypt(key.reveal(), public, self._bound_to(id_of(key), node_id)).hex()

    def open(self, sealed: str, key_id: str, node_id: str) -> Secret | None:
        try:
            key = Secret(_SUITE.decrypt(bytes.fromhex(sealed), self._box, self._bound_to(key_id, node_id)))
        except (InvalidTag, ValueError):
            return None
        return key if len(key) == CLUSTER_KEY_BYTES and id_of(key) == key_id else None

    def of_held(self, key_id: str) -> Secret | None:
        return next((one for one in self._file.keys.keys if id_of(one) == key_id), None)

    def take(self, key: Secret) -> None:
        keys = self._file.keys
        write_whole(self._file.path, keys.followed_by(key, name_of(keys)).content.reveal())

    def drop_older(self) -> None:
        keys = self._file.keys
        if len(keys.keys) > 1:
            write_whole(self._file.path, keys.for_newcomer.reveal())

    def vouch(self, key_id: str) -> str:
        return self._ca.vouch(bytes.fromhex(key_id)).hex()

    def attested(self, author: Author) -> Author:
        return self._ca.attested(author)

    def renewal(self, key: Secret) -> Callable[[Author], bytes | None]:
        return renewal(self._file.keys, key)

    def _box_statement(self, box: str, node_id: str) -> bytes:
        # begins as nothing does that TLS has signed by the same key (RFC 8446, 4.4.3: 64 spaces)
        return json.dumps(["entgldb box v1", name_of(self._file.keys), node_id, box]).encode()

    def _bound_to(self, key_id: str, node_id: str) -> bytes:
        return json.dumps(["entgldb cluster key v1", name_of(self._file.keys), key_id, node_id]).encode()
