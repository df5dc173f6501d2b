"""A write-ahead log that somebody's open read transaction keeps from shrinking, and who that is.

SQLite lets no checkpoint pass the oldest reader (https://www.sqlite.org/wal.html, "Avoiding Excessively
Large WAL Files"). A reader holds a POSIX lock on one of bytes 123 to 127 of the ``-shm`` file
(https://www.sqlite.org/walformat.html, section 2.3.1), and the kernel tells who holds which. The file
itself is never opened here: closing it would drop SQLite's own locks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from entgldb.messages.limits import WAL_ALARM_BYTES
from entgldb.messages.schema import Json

WAL_LARGE: Final = "wal-large"
_READ_LOCKS: Final = range(123, 128)
_NAMED_MAX: Final = 5
"""Readers that an alarm names."""


class WalWatch:
    """Looks now and then; tells an alarm while the log is too large."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._bytes = 0
        self._since_ms = 0
        self._readers: frozenset[int] = frozenset()

    def bytes(self) -> int:
        """The size of the write-ahead log now."""
        if self._path is None:
            return 0
        try:
            return self._path.with_name(f"{self._path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def look(self, now_ms: int) -> None:
        """To be called every few seconds."""
        self._bytes = self.bytes()
        if self._path is None or self._bytes <= WAL_ALARM_BYTES:
            self._since_ms, self._readers = 0, frozenset()
            return
        readers = readers_of(self._path.with_name(f"{self._path.name}-shm")) - {os.getpid()}
        # a reader that is seen again is no short one
        self._readers = (readers & self._readers) or readers
        self._since_ms = self._since_ms or now_ms

    def alarms(self) -> list[Json]:
        """None, or one that names the readers as far as the system tells them."""
        if not self._since_ms or self._path is None:
            return []
        told = [name_of(process) for process in sorted(self._readers)[:_NAMED_MAX]]
        who = "a read transaction of " + ", ".join(told) if told else "somebody's open read transaction"
        text = f"the write-ahead log has {self._bytes >> 20} MiB, and shrinks when {who} ends"
        return [{"code": WAL_LARGE, "subject": self._path.name, "text": text, "since_ms": self._since_ms}]


def readers_of(shared: Path) -> frozenset[int]:
    """Processes with a read transaction on a database, by its ``-shm`` file; empty where nobody tells."""
    try:
        inode = shared.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        words = line.split()
        # `1: POSIX  ADVISORY  READ 1234 fd:01:5678 124 124`; one that waits has an arrow more
        if len(words) != 8 or words[1] != "POSIX" or not words[5].endswith(f":{inode}"):
            continue
        first, last = int(words[6]), words[7]
        if first in _READ_LOCKS and last.isdigit() and int(last) in _READ_LOCKS:
            found.add(int(words[4]))
    return frozenset(process for process in found if process > 0 and _has_open(process, shared))


def _has_open(process: int, shared: Path) -> bool:
    """Whether a process has the file open, or does not let us see: an inode alone names no file system."""
    try:
        files = list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return True
    wanted = str(shared.resolve())
    for file in files:
        try:
            if os.readlink(file) == wanted:
                return True
        except OSError:
            continue
    return False


def name_of(process: int) -> str:
    """A process for a person."""
    try:
        return f"process {process} ({Path(f'/proc/{process}/comm').read_text().strip()})"
    except OSError:
        return f"process {process}"
