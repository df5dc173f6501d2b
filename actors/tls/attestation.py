"""The word of a cluster's CA for the key of a writer.

A node attests itself, because it holds the cluster key; a cloud node is attested by the gateway, which has
verified its name. The same key makes the certificates of a cluster: a statement begins with a word that no
certificate begins with.
"""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.cluster_key import ClusterKeys, Keys
from entgldb.actors.tls.certificates import ca_key as ca_key_of
from entgldb.actors.tls.certificates import ca_keys, name_of
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages.model import Author, node_of
from entgldb.messages.secret import Secret
from entgldb.storage.rules.authorship import GUEST_MARK, author_statement, is_guest, successor_statement


class CaOfCluster:
    """Implements ``ports.ClusterCa`` by the cluster key that counts now."""

    def __init__(self, keys: Keys) -> None:
        """Raises ConfigError for a key of the wrong size."""
        self._keys = keys
        self._made: tuple[ClusterKeys, dict[bytes, str]] | None = None
        self.authorities()

    @classmethod
    def of(cls, cluster_key: Secret) -> CaOfCluster:
        """By one key that nobody changes. Raises as the class."""
        held = ClusterKeys((cluster_key,))
        return cls(lambda: held)

    @property
    def public_key(self) -> bytes:
        return next(iter(self.authorities()))

    def authorities(self) -> dict[bytes, str]:
        """The public key of the CA whose word counts, and the name of the cluster.

        An older key that is held lets members come, and says nothing of writers: a thief may have a copy.
        """
        keys = self._keys().alone
        if self._made is None or self._made[0] != keys:
            self._made = keys, dict.fromkeys(ca_keys(keys), name_of(keys))
        return self._made[1]

    def attest(self, node_id: str, public_key: bytes, *, guest: bool = False) -> bytes:
        keys = self._keys()
        statement = author_statement(name_of(keys), node_id, public_key, guest=guest)
        return ca_key_of(keys.keys[0]).sign(statement) + (GUEST_MARK if guest else b"")

    def attested(self, author: Author) -> Author:
        """An author by the word of this CA, as a member or a guest as before."""
        word = self.attest(node_of(author.origin), author.public_key, guest=is_guest(author))
        return Author(author.origin, author.public_key, word)

    def vouch(self, ca_key: bytes) -> bytes:
        """The CA's word that another one follows it."""
        keys = self._keys()
        return ca_key_of(keys.keys[0]).sign(successor_statement(name_of(keys), ca_key))


def renewal(held: ClusterKeys, key: Secret) -> Callable[[Author], bytes | None]:
    """From an author that a key of ``held`` has attested to the attestation by ``key``, which follows them.

    None for an author that has it already, and for one that none of them has attested.
    """
    keys = held.followed_by(key, name_of(held))
    ca, witness = CaOfCluster(lambda: keys), CaWitness(lambda: dict.fromkeys(ca_keys(keys), keys.name))

    def renewed(author: Author) -> bytes | None:
        now = ca.attested(author).attestation
        return None if now == author.attestation or not witness.attested(author) else now

    return renewed
