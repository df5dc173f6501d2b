"""Directories for a while: removed at the end; the next owner removes those that a killed one left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from entgldb.launch.node.files import running

PREFIX: Final = "entgldb-"
OWNER: Final = "entgldb.owner"
"""Stands in such a directory and is locked as long as its owner lives."""


@contextlib.contextmanager
def temporary(kind: str) -> Iterator[Path]:
    """A new directory of ours alone; those that dead owners have left are removed first."""
    sweep()
    made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
    owner = os.open(made / f"{OWNER}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX)
        # it gets its name when it is locked: nobody finds it free
        (made / f"{OWNER}.new").rename(made / OWNER)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(owner)


def sweep() -> None:
    """Remove temporary directories of this user whose owner is dead and in which no node runs."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # somebody else may put something of that name into a folder that all can write
        with contextlib.suppress(OSError):
            told = directory.lstat()
            if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.geteuid() or told.st_mode & 0o077:
                continue
            owner = os.open(directory / OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not any(running(node.parent) for node in directory.rglob("entgldb.lock")):
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(owner)
