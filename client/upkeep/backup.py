"""A copy of a node as an open file, for those who send it elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from entgldb._version import VERSION
from entgldb.messages.errors import BusyError, EntglError, ErrorCode
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery.backup import Manifest, write

NAME: Final = "backup.sending"
"""The copy while it is made; it has no name any more when it is sent."""
LOCK: Final = "backup.lock"
ROOM_BYTES_MIN: Final = 512 * 1024 * 1024
"""Bytes that have to be free beside the copy: a node whose disk is full takes no writes."""


class Copied(NamedTuple):
    """A backup without a name."""

    file: BinaryIO
    size: int
    manifest: Manifest


def copied(directory: Path) -> Copied:
    """Copy and check the node in ``directory``; the file is gone when it is closed.

    Raises BusyError while another is made, EntglError disk-full where there is no room for it.
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another backup is under way", hint="try again later") from None
        _refuse_crowded(directory)
        return _made(directory)
    finally:
        os.close(lock)


def _made(directory: Path) -> Copied:
    target = directory / NAME
    try:
        manifest = write(directory, target, VERSION, time.time_ns() // 1_000_000, lambda done, of: None)
        file = target.open("rb")
    finally:
        for one in (target, target.with_name(f"{NAME}.json")):
            one.unlink(missing_ok=True)
    return Copied(file, os.fstat(file.fileno()).st_size, manifest)


def _refuse_crowded(directory: Path) -> None:
    size = 0
    for one in (directory / FILE, directory / f"{FILE}-wal"):
        # a node that stops just now takes its WAL along
        with contextlib.suppress(FileNotFoundError):
            size += one.stat().st_size
    free = shutil.disk_usage(directory).free
    if free < size + ROOM_BYTES_MIN:
        raise EntglError(
            f"a copy takes {size} bytes on the node's disk, {free} are free",
            code=ErrorCode.DISK_FULL,
            hint="entgldb backup FILE, onto another disk",
        )
