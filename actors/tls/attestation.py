"""The word of a cluster's CA for the key of a writer.

A node attests itself, because it holds the cluster key; a cloud node is attested by the gateway, which has
verified its name. The same key makes the certificates of a cluster: a statement begins with a word that no
certificate begins with.
"""

from __future__ import annotations

from entgldb.actors.tls.certificates import ca_key
from entgldb.storage.rules.authorship import GUEST_MARK, author_statement, cluster_of


class CaOfCluster:
    """Implements ``ports.ClusterCa``."""

    def __init__(self, cluster_key: bytes) -> None:
        """Raises ConfigError for a key of the wrong size."""
        self._key = ca_key(cluster_key)
        self.public_key = self._key.public_key().public_bytes_raw()
        self._cluster = cluster_of(self.public_key)

    def attest(self, node_id: str, public_key: bytes, *, guest: bool = False) -> bytes:
        """The CA's word that a node writes with a key; ``guest``: a node of another cluster."""
        statement = author_statement(self._cluster, node_id, public_key, guest=guest)
        return self._key.sign(statement) + (GUEST_MARK if guest else b"")
