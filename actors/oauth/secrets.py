"""Client secrets: referenced (``env:NAME``, ``file:PATH``) or sealed for the members of one cluster.

Sealed is AES-256-GCM under a key derived from the cluster key by HKDF-SHA256 (RFC 5869). A secret that
was sealed under an older key opens while this node holds that. The associated data names everything that
decides where the secret will be sent, so that a sealed text moved to another peer, authority or client does
not open: an editor of the replicated list cannot have it posted elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.oauth.secret_file import read_bounded
from entgldb.actors.ports import KeyRing
from entgldb.messages.errors import ConfigError, SecretError
from entgldb.messages.limits import PEM_BYTES_MAX, SECRET_BYTES_MAX
from entgldb.messages.remote_peers import CLIENT_KEY_NAME, PRIVATE_KEY_JWT, SEALED, OAuth2, is_reference
from entgldb.messages.secret import Secret

REFERENCES = ("env:", "file:")
"""The beginnings of a secret that stands elsewhere."""
NONCE_BYTES = 12

_Check = Callable[[str, str], Secret]
"""Gives a text back as a secret, or raises SecretError naming where it was found."""


class KeyedSecrets:
    """Implements ``ports.Secrets``. ``key_file`` is empty on a node without a cluster key.

    A ``file:`` that is not absolute lies beside the key file.
    """

    def __init__(self, key_file: str, cluster: str, ring: KeyRing | None = None) -> None:
        self._key_file = key_file
        self._cluster = cluster
        self.ring = ring

    def resolvable(self, node_id: str, oauth2: OAuth2) -> bool:
        """Whether ``resolve`` would succeed here now, with the secret or with the one before it."""
        before = [oauth2.before] if oauth2.previous_secret else []
        return any(self._resolves(node_id, one) for one in (oauth2, *before))

    def _resolves(self, node_id: str, oauth2: OAuth2) -> bool:
        try:
            self.resolve(node_id, oauth2)
        except SecretError:
            return False
        return True

    def resolve(self, node_id: str, oauth2: OAuth2) -> Secret:
        """The secret, for the one request that needs it; the private key in PEM where the client
        authenticates by one. Raises SecretError, never quoting it."""
        given = oauth2.client_secret
        check: _Check = _checked
        if oauth2.auth_method == PRIVATE_KEY_JWT:
            given, check = given or f"file:{CLIENT_KEY_NAME}", _checked_key
        if given.startswith(REFERENCES):
            return _referenced(given, Path(self._key_file).parent, check)
        if given.startswith(SEALED):
            return self._open(node_id, oauth2)
        raise SecretError(
            f"peer {node_id} has no client secret", hint="give env:NAME, file:PATH or the secret itself"
        )

    def seal(self, node_id: str, oauth2: OAuth2, secret: str) -> str:
        clear = _checked(secret, "the given client secret").reveal()
        key, key_id = self._keys()[0]
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, clear, self._bound_to(node_id, oauth2))
        return f"{SEALED}{key_id}:{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def resealed(self, node_id: str, oauth2: OAuth2) -> OAuth2 | None:
        now, before = self._anew(node_id, oauth2), self._anew(node_id, oauth2.before)
        made = replace(oauth2, client_secret=now, previous_secret=before)
        return None if made == oauth2 else made

    def _anew(self, node_id: str, oauth2: OAuth2) -> str:
        """The secret of ``oauth2`` as it is to stand."""
        if not oauth2.client_secret.startswith(SEALED):
            return oauth2.client_secret
        try:
            if oauth2.client_secret.startswith(f"{SEALED}{self._keys()[0][1]}:"):
                return oauth2.client_secret
            return self.seal(node_id, oauth2, self._open(node_id, oauth2).text())
        except SecretError:
            return oauth2.client_secret

    def matches(self, node_id: str, oauth2: OAuth2, secret: str) -> bool:
        stored = oauth2.client_secret
        if not stored.startswith(SEALED) or is_reference(secret):
            return Secret(stored) == Secret(secret)
        try:
            clear = self._open(node_id, oauth2)
        except SecretError:
            return False
        return clear == Secret(secret)

    def _open(self, node_id: str, oauth2: OAuth2) -> Secret:
        key_id, _, text = oauth2.client_secret.removeprefix(SEALED).partition(":")
        key = next((key for key, ours in self._keys() if ours == key_id), None)
        if key is None:
            raise SecretError(
                f"the secret of peer {node_id} was sealed under another cluster key", hint="set it again"
            )
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            clear = AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], self._bound_to(node_id, oauth2))
            return Secret(clear.decode())
        except (InvalidTag, binascii.Error, ValueError):
            raise SecretError(
                f"the sealed secret of peer {node_id} does not belong to this peer, authority and client",
                hint="set it again",
            ) from None

    def _bound_to(self, node_id: str, oauth2: OAuth2) -> bytes:
        # token endpoint and CA decide like the authority to whom the secret is posted
        bound = [self._cluster, node_id, oauth2.authority, oauth2.client_id]
        return json.dumps([SEALED, "clientSecret", *bound, oauth2.token_endpoint, oauth2.ca_pem]).encode()

    def _keys(self) -> list[tuple[bytes, str]]:
        """Of each cluster key the sealing key and its public name; of the one that counts first."""
        if not self._key_file:
            raise SecretError("this node has no cluster key to seal or open secrets with")
        try:
            keys = read_cluster_keys(self._key_file).keys
        except OSError as fault:
            raise SecretError(f"the cluster key cannot be read: {fault.strerror}") from None
        except ConfigError as fault:
            raise SecretError(fault.text) from None
        return [
            (_derive(key, b"secret-seal v1", 32), _derive(key, b"secret-seal-id v1", 8).hex()) for key in keys
        ]


def _derive(cluster_key: Secret, info: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt=b"entgldb", info=info).derive(cluster_key.reveal())


def referenced(text: str, folder: Path) -> Secret:
    """The secret that ``env:NAME`` or ``file:PATH`` stands for; PATH begins at ``folder``.

    Raises SecretError, which quotes no secret.
    """
    return _referenced(text, folder, _checked)


def _referenced(text: str, folder: Path, check: _Check) -> Secret:
    if text.startswith("env:"):
        return _from_environment(text.removeprefix("env:"), check)
    # joined to an absolute path it is that path
    return _from_file(str(folder / text.removeprefix("file:")), check)


def _from_environment(name: str, check: _Check) -> Secret:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(f"the environment variable {name} is not set", hint="set it and restart the node")
    return check(value, f"the environment variable {name}")


def _from_file(path: str, check: _Check) -> Secret:
    try:
        text = read_bounded(path, PEM_BYTES_MAX + 1).decode()
    except OSError as fault:
        raise SecretError(f"{path} cannot be read: {fault.strerror}") from None
    except ValueError:
        raise SecretError(f"{path} does not hold UTF-8 text") from None
    return check(text.removesuffix("\n").removesuffix("\r"), path)


def _checked_key(pem: str, where: str) -> Secret:
    """Its marks only: to read the key costs more than a look every few seconds should."""
    if len(pem) > PEM_BYTES_MAX or not re.search("-----BEGIN [A-Z ]*PRIVATE KEY-----", pem):
        raise SecretError(f"{where} holds no private key in PEM", hint="entgldb client-key makes one")
    return Secret(pem)


def _checked(secret: str, where: str) -> Secret:
    size = len(secret.encode("utf-8", "surrogatepass"))
    if not 0 < size <= SECRET_BYTES_MAX or not secret.isprintable():
        raise SecretError(
            f"{where} holds no usable secret",
            hint=f"1 to {SECRET_BYTES_MAX} bytes of printable text, one line",
        )
    return Secret(secret)
