"""How much room the disk under a node's file has: the edge of ``ports.Disk``."""

from __future__ import annotations

import os
from pathlib import Path


class FreeSpace:
    """Implements ``ports.Disk`` by statvfs(3); a quota of the user is not seen."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = directory

    def free_bytes(self) -> int | None:
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
