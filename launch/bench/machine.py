"""The machine that figures are of: they say nothing without it."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

SYNCS: Final = 50
"""So many times a page is written and made durable; the median is told."""
_PAGE: Final = 4_096


class Machine(NamedTuple):
    """Where something was measured."""

    machine: str
    cores: int
    """Those that this process may use."""
    memory_mb: int
    system: str
    python: str
    sqlite: str
    file_system: str
    """Of the directory in which the files are."""
    fsync_ms: float

    def fields(self) -> dict[str, Any]:
        """``machine`` of the results."""
        return self._asdict()

    def lines(self) -> str:
        """For a person."""
        return (
            f"machine: {self.machine}, {self.cores} cores, {self.memory_mb:,} MB, {self.system}\n"
            f"Python {self.python}, SQLite {self.sqlite}, {self.file_system}, fsync {self.fsync_ms:g} ms"
        )


def look(directory: Path) -> Machine:
    """Look at the machine and at the file system of ``directory``, in which a file is made for a moment."""
    return Machine(
        _processor(),
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000,
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        sqlite3.sqlite_version,
        file_system(directory.resolve(), Path("/proc/self/mountinfo").read_text("utf-8", "replace")),
        fsync_ms(directory),
    )


def file_system(directory: Path, mounts: str) -> str:
    """The file system that a directory is on. ``mounts``: as in proc(5), the last of a place counts."""
    found, depth = "unknown file system", 0
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        if kind:
            point = Path(place.split()[4].replace(r"\040", " "))
            if directory.is_relative_to(point) and len(point.parts) >= depth:
                found, depth = kind.split()[0], len(point.parts)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    # not every architecture tells one
    return platform.machine()


def fsync_ms(directory: Path) -> float:
    """The median time in which a page that is added to a file is durable. Raises OSError."""
    path, taken = directory / f"fsync-{os.getpid()}", []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(SYNCS):
            os.write(file, b"\xa5" * _PAGE)
            begun = time.perf_counter()
            os.fsync(file)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(file)
        path.unlink()
    return float(f"{statistics.median(taken) * 1_000:.3g}")
