"""The machine under a node: its clock, its disk, and the file itself."""

from __future__ import annotations

import ctypes
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from entgldb.client.health.finding import Finding, Look
from entgldb.launch.bench.machine import file_system, fsync_ms
from entgldb.launch.doctor.outside import Place
from entgldb.messages.errors import EntglError, NotFoundError
from entgldb.storage.file.open import open_reader
from entgldb.storage.file.wal_watch import name_of, readers_of
from entgldb.storage.indexes.listing import indexes

FSYNC_MS_MAX: Final = 100.0
"""A commit waits for one: with more, single writes are slow enough to be noticed by people."""
NETWORK_DISKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph"})
"""File systems on which SQLite's locks and its shared memory cannot be relied on."""
QUICK_CHECK_SECONDS_MAX: Final = 10.0
"""A larger file is looked at in part; ``verify --deep`` takes its time."""
_TIME_ERROR: Final = 5
"""The answer of adjtimex(2) for a clock that nothing disciplines."""
_TIMEX_BYTES: Final = 512
"""More than a ``struct timex`` has; its first field, ``modes``, is 0: nothing is changed."""
_CLOCK_SOURCE: Final = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def clock(place: Place) -> Look:
    """Whether something keeps this machine's clock right."""
    synchronized = _synchronized()
    facts = {"synchronized": synchronized, "source": _text(_CLOCK_SOURCE)}
    found = []
    if synchronized is False:
        text = "nothing keeps this machine's clock right: set up NTP (chrony, systemd-timesyncd)"
        found.append(Finding("clock", "unsynchronized", "", text))
    return Look(facts, found)


def _synchronized() -> bool | None:
    """None where the system does not tell."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def disk(place: Place) -> Look:
    """The file system, how long an fsync takes, and who reads the file."""
    mounts = _text(Path("/proc/self/mountinfo")) or ""
    kind = file_system(place.directory, mounts)
    facts: dict[str, Any] = {"file_system": kind, "readers": _readers(place)}
    found = []
    if kind in NETWORK_DISKS:
        text = f"{kind}: SQLite cannot rely on the locks of a network file system; use a local disk"
        found.append(Finding("disk", "network-disk", "", text))
    for reader in facts["readers"]:
        found.append(Finding("disk", "reader", reader, f"{reader} reads the file in a transaction now"))
    try:
        facts["fsync_ms"] = fsync_ms(place.directory)
    except OSError as fault:
        text = f"nothing can be written into {place.directory}: {fault.strerror}"
        return Look(facts, [*found, Finding("disk", "disk-full", "", text)])
    if facts["fsync_ms"] > FSYNC_MS_MAX:
        text = f"an fsync takes {facts['fsync_ms']:.0f} ms, and every commit waits for one"
        found.append(Finding("disk", "slow-disk", "", text))
    return Look(facts, found)


def _readers(place: Place) -> list[str]:
    """Processes that read the file now and are none of the node's."""
    own = set((place.record.get("pids") or {}).values())
    processes = readers_of(place.directory / "entgldb.db-shm")
    return [name_of(one) for one in sorted(processes) if one not in own and not _is_ours(one, place)]


def _is_ours(process: int, place: Place) -> bool:
    """Whether a process descends from the launcher of this node."""
    launcher = place.record.get("pid")
    for _ in range(4):
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
        if process == launcher:
            return True
    return False


def db(place: Place) -> Look:
    """SQLite's own quick check, and the indexes of this node."""
    try:
        connection = open_reader(place.directory)
    except NotFoundError:
        return Look({"file": "not made yet"}, [])
    except EntglError as fault:
        return Look({}, [Finding("db", "damaged", "", fault.text)])
    try:
        begun = time.monotonic()
        complete, faults = _quick_check(connection, begun + QUICK_CHECK_SECONDS_MAX)
        facts: dict[str, Any] = {
            "quick_check": "ok"
            if complete and not faults
            else "damaged"
            if faults
            else "too large: looked in part",
            "quick_check_s": round(time.monotonic() - begun, 2),
        }
        if not faults:
            rows = indexes(connection)
            facts["index_list"] = [f"{one.collection} {one.name}" for one in rows]
    except sqlite3.DatabaseError as fault:
        return Look({}, [Finding("db", "damaged", "", str(fault))])
    finally:
        connection.close()
    return Look(facts, [Finding("db", "damaged", "", text) for text in faults])


def _quick_check(connection: sqlite3.Connection, until: float) -> tuple[bool, list[str]]:
    """Whether it came to its end, and what it says but ``ok``."""
    connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
    try:
        said = [str(text) for (text,) in connection.execute("PRAGMA quick_check(10)")]
    except sqlite3.OperationalError:
        return False, []
    finally:
        connection.set_progress_handler(None, 0)
    return True, [text for text in said if text != "ok"]


def _text(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return None
