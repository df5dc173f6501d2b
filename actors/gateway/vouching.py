"""The gateway's word for writers behind a cloud link: a cloud has no cluster key, so it cannot attest itself.

Its name was verified by TLS, so the gateway attests the keys that write under it. A cloud that several
clusters share answers for the writers of the others as well: theirs is another CA, which nobody here knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from entgldb.actors.ports import ClusterCa, LogReader
from entgldb.messages import wire
from entgldb.messages.model import KEYS, Author, node_of
from entgldb.storage.authorship.cluster_keys import cas_in
from entgldb.storage.rules.authorship import fits

INCARNATIONS_MAX: Final = 16
"""Incarnations of one cloud node that are attested over one link: it takes a new one only after a mishap."""
GUESTS_MAX: Final = 256
"""Writers of other clusters that are attested over one link."""


def chain_of_cas(ca: ClusterCa | None, log: LogReader) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The key of the first CA of the cluster, and of those that followed it up to ours."""
    if ca is None:
        return b"", ()
    first, successors = cas_in(log.get(KEYS, ca.public_key.hex()))
    return first or ca.public_key, successors


class Vouching:
    """For one link."""

    def __init__(self, ca: ClusterCa | None, hello: wire.Hello) -> None:
        self._ca = ca
        self._node_id = hello.node_id
        self._shared = wire.SHARED in hello.features
        self._most = GUESTS_MAX if self._shared else INCARNATIONS_MAX
        self._known: dict[Author, Author] = {}
        """Those it has answered for, as the cloud named them: each round of a session names them again."""

    def attested(self, authors: Iterable[Author]) -> tuple[Author, ...]:
        """The authors that the cloud has named, attested where this node answers for them."""
        return tuple(self._attested(author) for author in authors)

    def _attested(self, author: Author) -> Author:
        if author in self._known:
            return self._known[author]
        node_id, key = node_of(author.origin), author.public_key
        guest = node_id != self._node_id
        if self._ca is None or (guest and not self._shared) or not fits(author):
            return author
        if len(self._known) >= self._most:
            return author
        attestation = self._ca.attest(node_id, key)
        if attestation == author.attestation:
            return author
        if guest:
            attestation = self._ca.attest(node_id, key, guest=True)
        self._known[author] = Author(author.origin, key, attestation)
        return self._known[author]
