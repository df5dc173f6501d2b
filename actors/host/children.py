"""The processes of a node: what one that was forked tells the kernel, and those that it has forked.

Children are held by pidfd: no signal can hit a stranger, no death is missed.

Thespian reports a child's death only when it knows the child's address; a child that dies before it
said where it is would be lost. The kernel tells every death.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
from pathlib import Path
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_LIBC: Final = ctypes.CDLL(None)
"""Loaded once for all that are forked: each load makes a class, in pages of the process that loads."""


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it is gone."""
    parent = multiprocessing.parent_process()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)


def name_process(name: str) -> None:
    """So that ``ps`` and ``top`` tell the actors apart."""
    _LIBC.prctl(_PR_SET_NAME, f"entgldb-{name}".encode(), 0, 0, 0)


def child_pids(pid: int) -> set[int]:
    """The direct children of a process, from the kernel."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


class Children:
    """Name -> pid and pidfd of the actors this process has forked."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._pids: dict[str, int] = {}

    def spawn(self, actor: Any, name: str, cls: type) -> Any:
        """Fork a child actor; its Thespian address."""
        before = child_pids(os.getpid())
        address = actor.createActor(cls)
        (pid,) = child_pids(os.getpid()) - before
        self.forget(name)
        self._fds[name], self._pids[name] = os.pidfd_open(pid), pid
        return address

    def kill(self, name: str) -> None:
        """End a child at once."""
        fd = self._fds.get(name)
        if fd is not None:
            signal.pidfd_send_signal(fd, signal.SIGKILL)

    def pid(self, name: str) -> int:
        """The id of a child that lives, else 0."""
        return self._pids[name] if name in self._fds else 0

    def exited(self) -> list[str]:
        """The children that have died since the last call."""
        if not self._fds:
            return []
        ready, _, _ = select.select(list(self._fds.values()), [], [], 0)
        dead = [name for name, fd in self._fds.items() if fd in ready]
        for name in dead:
            self.forget(name)
        return dead

    def forget(self, name: str) -> None:
        """Let go of a child's descriptor."""
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def names(self) -> set[str]:
        """The children that live."""
        return set(self._fds)

    def fds(self) -> list[int]:
        """Descriptors that become readable when a child dies."""
        return list(self._fds.values())
