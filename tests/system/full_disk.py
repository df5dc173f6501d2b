"""``python -m tests.system.full_disk MADE DISK``: a node on a tmpfs, filled up while writes flow.

To be run in a mount namespace of its own; ends with 0 when every promise was kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from entgldb.launch.client import Database
from entgldb.launch.node import Node, ask
from entgldb.messages.client import Report, Status
from entgldb.messages.errors import EntglError
from tests.system.load import COLLECTION, flowing
from tests.system.processes import until

SICK = frozenset({"disk-full", "disk-error"})
TMPFS_BYTES = 64 * 1024 * 1024
"""Far more than the WAL grows to before it is written back: it is the ballast that fills the disk."""


def fill(directory: Path) -> Path:
    """Leave no room."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                continue
        except OSError:
            return ballast
    raise AssertionError("a disk without an end")


def scenario(directory: Path) -> None:
    """Full twice; the second time the store is killed as well."""
    with Database(directory) as db, flowing(directory) as load:
        load.expected = SICK
        key = next(iter(load.acknowledged))
        ballast = fill(directory)
        until(lambda: load.refused["disk-full"] > 20, 10.0, "refusals")
        assert db[COLLECTION].get(key) is not None
        try:
            db[COLLECTION].put("more", {"text": "x" * 10_000})
        except EntglError as fault:
            assert fault.code in SICK  # noqa: PT017 -- no test function
        else:
            raise AssertionError("there was no room")
        ballast.unlink()
        load.more(200)
        ballast, before = fill(directory), load.refused["disk-full"]
        until(lambda: load.refused["disk-full"] > before + 20, 10.0, "refusals again")
        pids = db.status("node")["pids"]
        assert isinstance(pids, dict)
        os.kill(int(str(pids["store"])), signal.SIGKILL)
        assert db[COLLECTION].get(key) is not None
        # it starts and fails, several times
        until(lambda: restarts(directory) >= 3, 10.0, "attempts to start without room")
        ballast.unlink()
        load.more(200)


def restarts(directory: Path) -> int:
    """How often the store was started again, as the node actor says."""
    report = ask(directory, "node", Status())
    assert isinstance(report, Report)
    return int(report.body["restarts"]["store"])


def main(made: str, disk: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", disk], check=True)
    directory = Path(disk) / "n1"
    shutil.copytree(made, directory)
    node = Node(directory, with_parent=True)
    try:
        node.wait_ready()
        scenario(directory)
    finally:
        node.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
