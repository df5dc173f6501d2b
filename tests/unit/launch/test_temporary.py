"""Temporary directories whose owner was killed go; nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from entgldb.launch.node.child import environment
from entgldb.launch.node.files import locked
from entgldb.launch.playground.temporary import OWNER, sweep, temporary

PROGRAM = """
import signal
from entgldb.launch.playground.temporary import temporary
with temporary("demo") as made:
    (made / "lan-1").mkdir()
    (made / "lan-1" / "entgldb.db").write_bytes(b"x" * 1000)
    print(made, flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def owner(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**environment(), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_owner_left_goes_with_the_next_one(folder: Path) -> None:
    process, left = owner(folder)
    try:
        with temporary("demo") as made:
            assert left.exists(), "its owner lives"
            assert made != left
        assert not made.exists()
    finally:
        process.kill()
        process.communicate()
    assert left.exists()
    with temporary("bench"):
        assert not left.exists()


def test_an_owner_that_is_interrupted_leaves_nothing(folder: Path) -> None:
    process, left = owner(folder)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not left.exists()


def test_only_what_is_surely_ours_and_dead_goes(folder: Path) -> None:
    def made(name: str, mode: int = 0o700) -> Path:
        (folder / name).mkdir(mode)
        (folder / name).chmod(mode)
        (folder / name / OWNER).touch()
        return folder / name

    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / OWNER).touch()
    stays = [
        made("other-demo-1"),
        made("entgldb-demo-shared", 0o755),
        made("entgldb-demo-running"),
        made("entgldb-demo-linked"),
        made("entgldb-demo-unowned"),
        elsewhere,
    ]
    (folder / "entgldb-demo-link").symlink_to(elsewhere)
    (stays[3] / OWNER).unlink()
    (stays[3] / OWNER).symlink_to(elsewhere / OWNER)
    (stays[4] / OWNER).unlink()
    goes = made("entgldb-demo-dead")
    (stays[2] / "lan-1").mkdir()
    with locked(stays[2] / "lan-1"):
        sweep()
    assert [one for one in stays if not one.exists()] == []
    assert not goes.exists()
    sweep()
    assert not stays[2].exists(), "its last node has ended"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_what_another_user_left_stays(folder: Path) -> None:
    (folder / "entgldb-demo-theirs").mkdir(0o700)
    (folder / "entgldb-demo-theirs" / OWNER).touch()
    os.chown(folder / "entgldb-demo-theirs", 65534, 65534)
    sweep()
    assert (folder / "entgldb-demo-theirs").exists()
