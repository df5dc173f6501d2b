"""The word of a cluster's CA for the key of a writer, and whether somebody has it.

A node attests itself, because it holds the cluster key; a cloud node is attested by the gateway, which has
verified its name. The same key makes the certificates of a cluster: a statement begins with a word that no
certificate begins with.
"""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.tls.certificates import ca_key
from entgldb.storage.rules.authorship import author_statement, cluster_of


def attester(cluster_key: bytes) -> Callable[[str, bytes], bytes]:
    """From node id and public key to the attestation. Raises ConfigError for a key of the wrong size."""
    key = ca_key(cluster_key)
    cluster = cluster_of(key.public_key().public_bytes_raw())
    return lambda node_id, public_key: key.sign(author_statement(cluster, node_id, public_key))


def ca_public_key(cluster_key: bytes) -> bytes:
    """The key by which all attestations of a cluster are checked."""
    return ca_key(cluster_key).public_key().public_bytes_raw()
