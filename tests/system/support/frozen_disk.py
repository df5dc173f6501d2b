"""A disk that stops answering for a while: a process that writes to it waits in the kernel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

IMAGE_BYTES: Final = 64 * 1024 * 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own; skips where this user may mount none."""
    image, disk = folder / "disk.img", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    tools = all(shutil.which(name) for name in ("mkfs.ext4", "mount", "fsfreeze"))
    if not tools or not _run("mkfs.ext4", "-q", str(image)):
        pytest.skip("this machine makes no file system in a file")
    if not _run("mount", "-o", "loop", str(image), str(disk)):
        pytest.skip("this user may mount nothing")
    try:
        yield disk
    finally:
        _run("umount", "--lazy", str(disk))


@contextmanager
def frozen(disk: Path, seconds: float) -> Iterator[None]:
    """Every write to ``disk`` waits for so long, whatever becomes of this process."""
    script = 'fsfreeze --freeze "$0" && echo frozen && sleep "$1"; fsfreeze --unfreeze "$0"'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, str(disk), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "frozen\n"
        yield


def _run(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
