"""The keys that make a node a member of its cluster, as they lie in its file.

key(32)                           a cluster whose key was never changed: its name follows from the key
key(32) name(8) older(32)...      the key that counts, the name for good, the keys before it, latest first
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.errors import ConfigError
from entgldb.messages.secret import Secret

CLUSTER_KEY_NAME: Final = "cluster.key"
CLUSTER_KEY_BYTES: Final = 32
KEYS_MAX: Final = 4
"""Keys that a node holds: the one that counts, and those before it under which others may still come."""
_NAME_BYTES: Final = 8


class ClusterKeys(NamedTuple):
    """All that the file says."""

    keys: tuple[Secret, ...]
    """The one that counts is the first."""
    name: str = ""
    """The name of the cluster, 16 hex digits; empty: the key is the first one, and makes the name."""

    @property
    def content(self) -> Secret:
        """The bytes of the file."""
        key, *older = (one.reveal() for one in self.keys)
        return Secret(key + bytes.fromhex(self.name) + b"".join(older))

    @property
    def alone(self) -> ClusterKeys:
        """The one that counts, without those before it."""
        return ClusterKeys(self.keys[:1], self.name)

    @property
    def for_newcomer(self) -> Secret:
        """The file of a node that joins now: it needs no older key."""
        return self.alone.content

    def followed_by(self, key: Secret, name: str) -> ClusterKeys:
        """The keys once ``key`` counts, in the cluster ``name``."""
        older = [one for one in self.keys if one != key]
        return ClusterKeys((key, *older)[:KEYS_MAX], name)


def cluster_keys(content: bytes, where: str = "this") -> ClusterKeys:
    """The keys in the bytes of a file. Raises ConfigError when it is something else."""
    key, name, rest = content[:32], content[32:40], content[40:]
    older = [rest[at : at + CLUSTER_KEY_BYTES] for at in range(0, len(rest), CLUSTER_KEY_BYTES)]
    sizes = {len(one) for one in (key, *older)}
    if sizes != {CLUSTER_KEY_BYTES} or len(older) >= KEYS_MAX or len(name) not in (0, _NAME_BYTES):
        raise ConfigError(f"{where} is no cluster key of {CLUSTER_KEY_BYTES} bytes")
    return ClusterKeys((Secret(key), *map(Secret, older)), name.hex())


def read_cluster_keys(path: str | Path) -> ClusterKeys:
    """The keys in a file. Raises OSError, or ConfigError when it is something else."""
    with open(path, "rb") as file:
        return cluster_keys(file.read(CLUSTER_KEY_BYTES * KEYS_MAX + _NAME_BYTES + 1), str(path))


class KeyFile:
    """The keys as the file has them now: it is read again once another has taken its place."""

    def __init__(self, path: str | Path) -> None:
        """Raises as ``read_cluster_keys``."""
        self.path = Path(path)
        self._seen = self._look()
        self._keys = read_cluster_keys(self.path)

    @property
    def keys(self) -> ClusterKeys:
        """A file that cannot be read now changes nothing."""
        seen = self._look()
        if seen not in (None, self._seen):
            with suppress(OSError, ConfigError):
                self._keys, self._seen = read_cluster_keys(self.path), seen
        return self._keys

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


Keys = Callable[[], ClusterKeys]
"""The keys as of now."""
