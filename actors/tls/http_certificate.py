"""The certificate by which a node's HTTP server shows itself beyond loopback, issued by the cluster's CA.

The leaf of the node itself names no host, so no client of HTTP would take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.tls.certificates import authority, is_for_names, issue_for_names, name_of, still_good
from entgldb.actors.tls.key_files import make_key, read_certificate, read_key
from entgldb.storage.file.durable import write_whole

CERTIFICATE, KEY, CA = "http.crt", "http.key", "http-ca.crt"
"""The files; the last is for clients, who have to trust it."""
RENEW_EVERY: Final = 3600.0
"""Seconds between two looks at whether it is due."""


def http_certificate(
    directory: Path, cluster_key_file: str | Path, node_id: str, names: Sequence[str], now: datetime
) -> tuple[Path, Path]:
    """The certificate and key in ``directory``; made anew where missing, due, or of other names or CA."""
    keys = read_cluster_keys(cluster_key_file)
    ca = authority(keys.keys[0], name_of(keys))
    certificate, key_file = directory / CERTIFICATE, directory / KEY
    key, leaf = read_key(key_file), read_certificate(certificate)
    good = (
        key is not None
        and leaf is not None
        and leaf.public_key() == key.public_key()
        and is_for_names(leaf, ca, names)
        and still_good(leaf, now)
    )
    if not good:
        key = make_key(key_file)
        made = issue_for_names(ca, node_id, names, key.public_key(), now)
        write_whole(certificate, made.public_bytes(Encoding.PEM) + ca.pem.encode())
        write_whole(directory / CA, ca.pem.encode())
    return certificate, key_file
