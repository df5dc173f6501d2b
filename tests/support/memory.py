"""A place in memory for the files of tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")


def in_memory(room: int) -> Path | None:
    """A folder whose files are in memory, with ``room`` bytes to spare. None: there is none on this machine.

    A kill takes nothing that the system was handed, and no test cuts the power of its machine: a disk would
    only make each commit wait.
    """
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK | os.X_OK):
        return None
    return MEMORY if min(shutil.disk_usage(MEMORY).free, _available()) >= room else None


def _available() -> int:
    """Bytes of memory that can be had without taking any from others; see proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return 0
