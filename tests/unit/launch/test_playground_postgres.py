"""The PostgreSQL of trials leaves nothing behind, even where its owner is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from entgldb.launch.node.child import environment
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180, method="signal")]

OWNER = """
import sys
from entgldb.launch.playground.postgres import a_server
with a_server() as running:
    print(running.address, flush=True)
    sys.stdin.read()
"""


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_server_whose_owner_is_killed_ends_and_its_folder_goes() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert owner.stdout is not None
        data = Path(owner.stdout.readline().strip().partition("host=")[2])
        pid = int((data / "postmaster.pid").read_text().split()[0])
        assert not gone(pid)
    finally:
        owner.kill()
        owner.communicate()
    try:
        eventually(lambda: gone(pid) and not data.parent.exists(), "nothing of it is left", 60.0)
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
