"""A node's processes and sockets as the kernel shows them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.system.support.kernel_view import eventually

T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first thing ``look`` finds, or a failure that says what was waited for."""
    found = eventually(look, what, seconds)
    assert found is not None
    return found


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(found for child in children(pid) for found in tree(child))]


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def all_gone(pids: list[int], seconds: float = 3.0) -> None:
    """Wait until none of the processes lives."""
    until(lambda: not any(map(alive, pids)), seconds, "the end of all processes")


def open_files(pid: int) -> list[str]:
    """The kernel's names of all that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found.append(os.readlink(link))
    return found


def listeners(pid: int) -> list[tuple[str, int]]:
    """(address, port) of every listening TCP socket of a process, IPv4 and IPv6, from the kernel's table."""
    inodes = {target[8:-1] for target in open_files(pid) if target.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
    return found
