"""The files that a running node leaves for others to find, the lock and ``node.json``; and one that it does
not leave."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, NoNodeError, NotAllowedError

LOCK = "entgldb.lock"
RECORD = "node.json"
LOCK_PATIENCE = 0.5
"""Seconds a start waits for the last processes of a node that was killed."""
POLL = 0.01


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Hold:
    """A directory that is held: for one node, or for a program that has opened it."""

    def __init__(self, directory: Path, *, opener: int = 0) -> None:
        """``opener``: the process that has opened it; 0: a node runs in it.

        Raises EntglError in-use when somebody else holds it.
        """
        if not directory.is_dir():
            raise ConfigError(f"{directory} is no directory", hint=f"entgldb init -d {directory}")
        self._fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait(directory)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{opener}\n".encode() if opener else b"", 0)
        except BaseException:
            os.close(self._fd)
            raise

    def let_go(self) -> None:
        """Hold it no more in this process; one that was forked meanwhile goes on."""
        os.close(self._fd)

    def end(self) -> None:
        """Hold it no more, nor any process that was forked meanwhile."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)

    def _wait(self, directory: Path) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _try_lock(self._fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise in_use(directory)
            time.sleep(POLL)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for one node. Every process forked meanwhile holds it too, until the last dies.

    Raises EntglError in-use when a node runs here, or a program has opened it.
    """
    hold = Hold(directory)
    try:
        yield
    finally:
        hold.let_go()


def leave_no_core() -> None:
    """From now on no crash of this process or of its children writes their memory anywhere.

    A dump would hold keys and tokens. A limit of 0 bytes keeps it from files alone; by one of 1 byte the
    kernel hands it to no program either (core(5), and ``do_coredump`` of Linux).
    """
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def refuse_open(directory: Path) -> None:
    """Raise NotAllowedError where everybody may leave files that a node would take for its own."""
    with contextlib.suppress(FileNotFoundError):
        if directory.stat().st_mode & stat.S_IWOTH:
            raise NotAllowedError(
                f"everybody may write into {directory}",
                hint=f"chmod 700 {directory}, and look at what is in it",
            )


def in_use(directory: Path) -> EntglError:
    """The error that says who holds a directory."""
    with contextlib.suppress(OSError, ValueError):
        opener = int((directory / LOCK).read_text("ascii"))
        return EntglError(
            f"{directory} is open in process {opener}",
            code=ErrorCode.IN_USE,
            hint="close it there; to use it from several programs, run a node and have them connect",
        )
    return EntglError(
        f"a node is already running in {directory}",
        code=ErrorCode.IN_USE,
        hint=f"entgldb status -d {directory}",
    )


def running(directory: Path) -> bool:
    """Whether any process of a node still holds the directory."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def wait_stopped(directory: Path, timeout: float) -> bool:
    """Whether the last process of the node was gone within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while running(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """``node.json``, whole or not at all."""
    fresh = directory / (RECORD + ".new")
    fresh.write_text(json.dumps({"schema_version": 1, **record}, indent=2) + "\n")
    fresh.replace(directory / RECORD)


def remove_record(directory: Path) -> None:
    """Before the node ends: nobody shall look for it any more."""
    (directory / RECORD).unlink(missing_ok=True)


def read_record(directory: Path) -> dict[str, Any]:
    """``node.json`` of a running node, or NoNodeError."""
    no_node = NoNodeError(f"no node is running in {directory}", hint=f"entgldb start -d {directory}")
    if not running(directory):
        raise no_node
    try:
        record = json.loads((directory / RECORD).read_text())
    except (FileNotFoundError, ValueError):
        raise no_node from None
    if not isinstance(record, dict):
        raise no_node
    return record
