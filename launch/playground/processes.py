"""The kernel's facts about processes and their connections, read from /proc: no node is asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_ESTABLISHED: Final = "01"


def tree(pid: int) -> set[int]:
    """``pid`` and all its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(entry)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid] if _stat(PROC / str(pid)) else []
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting += [child for child in children.get(one, []) if child not in found]
    return found


def _stat(entry: Path) -> list[str]:
    """Fields of /proc/PID/stat after the name, state first; empty for the dead and for zombies."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if not fields or fields[0] in "ZX" else fields


def connections_to(port: int, pids: Iterable[int]) -> set[int]:
    """Local ports of established connections that ``pids`` hold to ``port`` of this machine."""
    inodes = _inodes(pids)
    found = set()
    for name in ("tcp", "tcp6"):
        table = PROC / "net" / name
        # IPv6 may be switched off
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            remote_port = int(fields[2].rpartition(":")[2], 16)
            if fields[3] == _ESTABLISHED and remote_port == port and fields[9] in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def _inodes(pids: Iterable[int]) -> set[str]:
    found = set()
    for pid in pids:
        try:
            entries = list((PROC / str(pid) / "fd").iterdir())
        except OSError:
            continue
        for entry in entries:
            # a descriptor may be closed while we look
            with contextlib.suppress(OSError):
                link = os.readlink(entry)
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of ``pids`` together: shared pages are counted once."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that ``pids`` have used together, user and system."""
    ticks = 0
    for pid in pids:
        fields = _stat(PROC / str(pid))
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def exact_cpu_seconds(pids: Iterable[int]) -> float:
    """As ``cpu_seconds``, to the nanosecond and not to the tick, of the threads that are there now."""
    used = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").glob("*/schedstat"):
            # a thread may end while we look
            with contextlib.suppress(OSError):
                used += int(task.read_text().split()[0])
    return used / 1e9


def running(pids: Iterable[int], module: str) -> list[int]:
    """Those of ``pids`` that were started as ``python -m module``."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if module.encode() in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found
