"""Implements ``ports.Witness``: whether somebody has signed something, by the keys of the cluster's CAs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from entgldb.messages.limits import SIGNATURE_BYTES
from entgldb.messages.model import Author, node_of
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.rules.authorship import (
    GUEST_MARK,
    author_statement,
    cluster_of,
    is_guest,
    successor_statement,
)


class CaWitness:
    """Believes the CAs of the clusters that this node belongs to or serves."""

    def __init__(
        self,
        authorities: Callable[[], Mapping[bytes, str]],
        held: Callable[[], Collection[bytes]] = frozenset,
    ) -> None:
        """``authorities``: the public key of a CA -> its cluster, as of now. ``held``: the public keys of all
        CAs of which this node has the key, older ones too."""
        self._authorities = authorities
        self._held = held
        self._followed: dict[bytes, bytes] = {}
        """The public key of a CA -> that of the one by which it is believed."""

    @classmethod
    def of(cls, ca_key: bytes) -> CaWitness:
        """For a member of one cluster."""
        known = {ca_key: cluster_of(ca_key)}
        return cls(lambda: known)

    def signed(self, public_key: bytes, statement: bytes, signature: bytes) -> bool:
        return is_signed(public_key, statement, signature)

    def hear(
        self, cluster: str, ca_key: bytes, successors: Sequence[tuple[bytes, bytes]], *, member: bool = False
    ) -> None:
        """A peer tells of the CAs that followed one of ours, each signed by the one before.

        They are believed as long as that one is: a node that was away can take what was written meanwhile.
        By the word of a ``member`` one that has followed an older key that this node holds is believed as
        long as the key that counts here: both were made at once.
        """
        signer = ca_key
        for key, signature in successors[:CHAIN_MAX]:
            if not is_signed(signer, successor_statement(cluster, key), signature):
                return
            believed = self._believed()
            by = signer
            if member and signer not in believed and signer in self._held():
                by = next(iter(believed), b"")
            room = key in self._followed or len(self._followed) < CHAIN_MAX
            if believed.get(by) == cluster and key not in believed and room:
                self._followed[key] = by
            signer = key

    def believed(self) -> frozenset[bytes]:
        return frozenset(self._believed())

    def _believed(self) -> dict[bytes, str]:
        believed = dict(self._authorities())
        for key, signer in self._followed.items():
            if signer in believed:
                believed.setdefault(key, believed[signer])
        return believed

    def attested(self, author: Author) -> bool:
        """Whether one of the CAs says that the node of an origin has its key."""
        node_id, key, guest = node_of(author.origin), author.public_key, is_guest(author)
        signature, mark = author.attestation[:SIGNATURE_BYTES], author.attestation[SIGNATURE_BYTES:]
        return mark == (GUEST_MARK if guest else b"") and any(
            is_signed(ca_key, author_statement(cluster, node_id, key, guest=guest), signature)
            for ca_key, cluster in self._believed().items()
        )
