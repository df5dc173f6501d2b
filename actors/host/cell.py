"""Signs of life: a cell of shared memory for each actor, which it writes and its supervisor reads.

A message each way would cost an idle node more than all else that it does; the cell costs nobody a wake-up.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from entgldb.actors.behaviour import Life

CELL_BYTES: Final = 64
STEP_BYTES_MAX: Final = CELL_BYTES - 9
"""After 8 bytes of turns and one of length."""
_FIRST_FIELD: Final = 3
"""The number, in proc(5), of the field after the name in /proc/PID/stat."""
_STATE, _PARENT, _USER, _SYSTEM = 3 - _FIRST_FIELD, 4 - _FIRST_FIELD, 14 - _FIRST_FIELD, 15 - _FIRST_FIELD
_STAT_BYTES_MAX: Final = 4_096
_TICKS: Final = 100
"""A second has so many in /proc on Linux (USER_HZ)."""


class Cell:
    """One actor's; made before the fork, it is seen on both sides of it."""

    def __init__(self) -> None:
        self._bytes = memoryview(mmap.mmap(-1, CELL_BYTES))
        self._turns = self._bytes[:8].cast("Q")

    def turn(self) -> None:
        """The actor goes on, and is in no long step."""
        self._turns[0] += 1
        self._bytes[8] = 0

    def busy(self, step: str) -> None:
        """The actor begins a step that may take long."""
        named = step.encode()[:STEP_BYTES_MAX]
        self._bytes[9 : 9 + len(named)] = named
        self._bytes[8] = len(named)

    def life(self, pid: int) -> Life:
        """The actor's signs of life, with those that the kernel shows of its process."""
        step = bytes(self._bytes[9 : 9 + self._bytes[8]]).decode(errors="replace")
        return Life(self._turns[0], step, *of_process(pid))


def of_process(pid: int) -> tuple[str, float]:
    """State and seconds of processor time; an empty state where there is no such process."""
    fields = _stat(pid)
    return (fields[_STATE], (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS) if fields else ("", 0.0)


def parent_of(pid: int) -> int:
    """The process that has started another; 0 where there is no such process."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def _stat(pid: int) -> list[str]:
    try:
        stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(stat, _STAT_BYTES_MAX).decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []  # it has ended since
    finally:
        os.close(stat)
