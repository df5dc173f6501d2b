"""The files that a running node leaves in its directory for others to find: the lock and ``node.json``."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, NoNodeError

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


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for one node. Every process forked meanwhile holds it too, until the last dies.

    Raises EntglError in-use when a node runs here.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory", hint=f"entgldb init -d {directory}")
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise EntglError(
                    f"a node is already running in {directory}",
                    code=ErrorCode.IN_USE,
                    hint=f"entgldb status -d {directory}",
                )
            time.sleep(POLL)
        yield
    finally:
        os.close(fd)


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
