"""Snapshots of a simulated node: the same tables as in production, in memory that outlives a crash."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable

from entgldb.launch.testing.world import World
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.snapshots import SnapshotWritten
from entgldb.messages.schema import Message
from entgldb.storage.snapshot.freeze import freeze, read_chunk
from entgldb.storage.snapshot.staging import Staging

FREEZE_SECONDS = 0.3
_numbers = itertools.count(1)


class SnapshotDisk:
    """The files in the folder ``snapshots`` of one node."""

    def __init__(self) -> None:
        self.frozen: dict[str, sqlite3.Connection] = {}
        self.staged: dict[str, tuple[str, sqlite3.Connection]] = {}

    def crash(self) -> None:
        """Lose the writes that were not committed."""
        for _, connection in self.staged.values():
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Give the memory back."""
        for connection in self.frozen.values():
            connection.close()
        for _, connection in self.staged.values():
            connection.close()
        self.frozen.clear()
        self.staged.clear()

    def chunk(self, snapshot_id: str, number: int) -> tuple[bytes, bytes] | None:
        """``ports.SnapshotChunks``."""
        found = self.frozen.get(snapshot_id)
        return None if found is None else read_chunk(found, number)


class VirtualShelf:
    """``ports.SnapshotShelf`` for one life of oplog: what an earlier one had frozen is gone."""

    def __init__(
        self,
        disk: SnapshotDisk,
        source: sqlite3.Connection,
        world: World,
        deliver: Callable[[str, Message], bool],
        full: Callable[[], bool],
    ) -> None:
        self._disk = disk
        self._source = source
        self._world = world
        self._deliver = deliver
        self._full = full
        for connection in disk.frozen.values():
            connection.close()
        disk.frozen.clear()

    def freeze(self) -> None:
        if self._full():
            self._later(SnapshotWritten(None, "the disk is full"))
            return
        target = sqlite3.connect(":memory:", isolation_level=None)
        try:
            done = freeze(self._source, target)
        except EntglError as fault:
            self._later(SnapshotWritten(None, fault.text))
            return
        self.look(self._source)
        if done.id in self._disk.frozen:
            target.close()
        else:
            self._disk.frozen[done.id] = target
        self._later(SnapshotWritten(done))

    def look(self, source: sqlite3.Connection) -> None:
        """Right after a snapshot was made of ``source``."""

    def discard(self, snapshot_id: str) -> None:
        found = self._disk.frozen.pop(snapshot_id, None)
        if found is not None:
            found.close()

    def stage(self, snapshot_id: str) -> VirtualStaging:
        for other in [name for name in self._disk.staged if name != snapshot_id]:
            self._disk.staged.pop(other)[1].close()
        if snapshot_id not in self._disk.staged:
            uri = f"file:/simulated-{os.getpid()}-{next(_numbers)}?vfs=memdb"
            self._disk.staged[snapshot_id] = (uri, sqlite3.connect(uri, uri=True, isolation_level=None))
        staging = VirtualStaging(self._disk, snapshot_id, self._full)
        self._world.reached["snapshot resumed"] += staging.next > 0
        return staging

    def unstage(self) -> None:
        for _, connection in self._disk.staged.values():
            connection.close()
        self._disk.staged.clear()

    def _later(self, message: SnapshotWritten) -> None:
        self._world.after(self._world.random.random() * FREEZE_SECONDS, self._deliver, "oplog", message)


class VirtualStaging:
    """``ports.StagedSnapshot``."""

    def __init__(self, disk: SnapshotDisk, snapshot_id: str, full: Callable[[], bool]) -> None:
        self._disk, self._id, self._full = disk, snapshot_id, full
        self._uri, connection = disk.staged[snapshot_id]
        self._staging = Staging(connection)

    @property
    def next(self) -> int:
        return self._staging.next

    def add_chunk(self, number: int, payload: bytes, digest: bytes) -> None:
        if self._full():
            raise EntglError("database or disk is full", code=ErrorCode.DISK_FULL)
        self._staging.add_chunk(number, payload, digest)

    def finish(self, snapshot_id: str, *, whole: bool) -> str:
        self._staging.finish(snapshot_id, whole=whole)
        return self._uri

    def close(self) -> None:
        """It stays on disk."""

    def drop(self) -> None:
        found = self._disk.staged.pop(self._id, None)
        if found is not None:
            found[1].close()
