"""The key that makes a node a member of its cluster, as it lies in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from entgldb.messages.errors import ConfigError

CLUSTER_KEY_NAME: Final = "cluster.key"
CLUSTER_KEY_BYTES: Final = 32


def read_cluster_key(path: str | Path) -> bytes:
    """The 32 bytes of a cluster key file. Raises OSError, or ConfigError when it is something else."""
    with open(path, "rb") as file:
        key = file.read(CLUSTER_KEY_BYTES + 1)
    if len(key) != CLUSTER_KEY_BYTES:
        raise ConfigError(f"{path} is no cluster key of {CLUSTER_KEY_BYTES} bytes")
    return key
