"""Implements ``ports.Witness``: whether somebody has signed something, by the keys of the cluster's CAs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entgldb.messages.limits import SIGNATURE_BYTES
from entgldb.messages.model import Author, node_of
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.rules.authorship import GUEST_MARK, author_statement, cluster_of, is_guest


class CaWitness:
    """Believes the CAs of the clusters that this node belongs to or serves."""

    def __init__(self, authorities: Callable[[], Mapping[bytes, str]]) -> None:
        """``authorities``: the public key of a CA -> its cluster, as of now."""
        self._authorities = authorities

    @classmethod
    def of(cls, ca_key: bytes) -> CaWitness:
        """For a member of one cluster."""
        known = {ca_key: cluster_of(ca_key)}
        return cls(lambda: known)

    def signed(self, public_key: bytes, statement: bytes, signature: bytes) -> bool:
        return is_signed(public_key, statement, signature)

    def attested(self, author: Author) -> bool:
        """Whether one of the CAs says that the node of an origin has its key."""
        node_id, key, guest = node_of(author.origin), author.public_key, is_guest(author)
        signature, mark = author.attestation[:SIGNATURE_BYTES], author.attestation[SIGNATURE_BYTES:]
        return mark == (GUEST_MARK if guest else b"") and any(
            is_signed(ca_key, author_statement(cluster, node_id, key, guest=guest), signature)
            for ca_key, cluster in self._authorities().items()
        )
