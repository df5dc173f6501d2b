"""``python -m tests.system.support.full_disk MADE DISK``: a node on a tmpfs, filled up while writes flow.

To be run in a mount namespace of its own; ends with 0 when every promise was kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from entgldb.client.database import Database
from entgldb.launch.node.handle import Node, ask
from entgldb.messages.client import Reload, Report, Status
from entgldb.messages.errors import EntglError
from tests.system.support.load import COLLECTION, flowing
from tests.system.support.processes import until

SICK = frozenset({"disk-full", "disk-error"})
MIB = 1024 * 1024
TMPFS_BYTES = 64 * MIB
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


def floors(directory: Path, soft: int, hard: int) -> None:
    """Have the running, or yet to be started, node keep so many bytes free."""
    file = directory / "entgldb.toml"
    rest = file.read_text().partition("[disk]")[0]
    file.write_text(f"{rest}[disk]\nsoft_floor = {soft}\nhard_floor = {hard}\n")


def leave(directory: Path, free: int) -> Path:
    """A file so large that ``free`` bytes are left."""
    found, ballast = os.statvfs(directory), directory / "ballast"
    ballast.write_bytes(bytes(found.f_bavail * found.f_frsize - free))
    return ballast


def state(db: Database) -> object:
    """The state of the disk, as the store tells it."""
    found = db.status("store")["disk"]
    assert isinstance(found, dict)
    return found["state"]


def below_the_floors(directory: Path) -> None:
    """It warns, then refuses while there is room still, and goes on by itself."""
    floors(directory, 24 * MIB, 12 * MIB)
    with Database(directory) as db:
        assert isinstance(db.ask("node", Reload()), Report)
        until(lambda: state(db) == "ok", 10.0, "room")
        ballast = leave(directory, 18 * MIB)
        until(lambda: state(db) == "low", 10.0, "a warning")
        db["kept"].put("a", {"n": 1})
        ballast.unlink()
        ballast = leave(directory, 6 * MIB)
        until(lambda: state(db) == "full", 10.0, "the end of room")
        try:
            db["kept"].put("b", {"n": 2})
        except EntglError as fault:
            assert (fault.code, fault.definite) == ("disk-full", True)  # noqa: PT017 -- no test function
            assert str(12 * MIB) in fault.text  # noqa: PT017 -- as above
        else:
            raise AssertionError("there was no room above the floor")
        assert os.statvfs(directory).f_bavail > 0
        assert db["kept"].get("a") == {"n": 1}
        assert db["kept"].delete("a") is not None
        ballast.unlink()
        until(lambda: state(db) == "ok", 10.0, "room again")
        db["kept"].put("b", {"n": 2})
    floors(directory, 0, 0)
    with Database(directory) as db:
        assert isinstance(db.ask("node", Reload()), Report)


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
        # it starts, and fails again and again where what is left in its files is not enough to open them
        until(lambda: restarts(directory) >= 1, 10.0, "an attempt to start without room")
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
    floors(directory, 0, 0)
    node = Node(directory, with_parent=True)
    try:
        node.wait_ready()
        below_the_floors(directory)
        scenario(directory)
    finally:
        node.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
