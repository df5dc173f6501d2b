"""A place for backups, and the one on a mounted file system."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Final, Protocol

from entgldb.messages.errors import (
    ConfigError,
    EntglError,
    ErrorCode,
    ExistsError,
    NotAllowedError,
    NotFoundError,
)
from entgldb.storage.file.durable import sync

_CODES: Final = {
    errno.EACCES: NotAllowedError.code,
    errno.EPERM: NotAllowedError.code,
    errno.EROFS: NotAllowedError.code,
    errno.ENOENT: NotFoundError.code,
    errno.ENOSPC: ErrorCode.DISK_FULL,
    errno.EDQUOT: ErrorCode.DISK_FULL,
}


class Shelf(Protocol):
    """Files by name. Each method raises EntglError that names the place."""

    place: str
    """As a person has given it, without secrets."""

    def put(self, name: str, file: Path) -> None:
        """Store a file durably, whole or not at all. Raises ExistsError where the name is taken."""

    def digest(self, name: str) -> str:
        """The SHA-256 of the bytes that are there now, read back, in hexadecimal digits."""

    def remove(self, name: str) -> None:
        """Remove a file; none is there afterwards."""


class Folder:
    """Backups in a folder, such as one that is mounted from another machine."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where there is none: an empty mount point shall not be filled by mistake."""
        self.place = str(folder)
        self._folder = folder
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no directory", hint="mount it, or make it")

    def put(self, name: str, file: Path) -> None:
        """As Shelf."""
        target, part = self._folder / name, self._folder / f"{name}.part"
        with self._told():
            if target.exists():
                raise ExistsError(f"{target} is there already")
            part.unlink(missing_ok=True)
            try:
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                    with file.open("rb") as source:
                        shutil.copyfileobj(source, copy, 1024 * 1024)
                    copy.flush()
                    os.fsync(copy.fileno())
                part.rename(target)  # a link, which is never over another, is more than many mounts can do
            finally:
                part.unlink(missing_ok=True)
            sync(self._folder)

    def digest(self, name: str) -> str:
        """As Shelf."""
        with self._told(), (self._folder / name).open("rb") as opened:
            # from the disk or the other machine, not from this one's memory
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file_digest(opened, "sha256").hexdigest()

    def remove(self, name: str) -> None:
        """As Shelf."""
        with self._told():
            (self._folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            code = _CODES.get(fault.errno or 0, ErrorCode.DISK_ERROR)
            raise EntglError(f"{self._folder}: {fault.strerror or fault}", code=code) from fault
