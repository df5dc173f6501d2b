"""Named places in the store's way of writing at which it is killed. Production code knows nothing of them.

SQLite tells of every statement before it begins it, so a place is the beginning of a statement. Places inside
a COMMIT or a checkpoint are the n-th write, sync or truncation that SQLite asks its disk for from there on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

from tests.unit.storage.file.faulty_disk import FaultyDisk

STATEMENTS: Final = {
    "open:migrate": "PRAGMA user_version =",
    "open:running": "INSERT OR REPLACE INTO _entgldb_meta VALUES ('running'",
    "begin": "BEGIN IMMEDIATE",
    "savepoint:begin": "SAVEPOINT",
    "savepoint:end": "RELEASE",
    "log:row": "INSERT INTO _entgldb_oplog",
    "documents:row": "INSERT INTO _entgldb_documents",
    "collection:new": "INSERT OR IGNORE INTO _entgldb_collections",
    "collection:view": "CREATE VIEW",
    "index:new": "CREATE INDEX",
    "index:fill": "INSERT OR IGNORE INTO _entgldb_ix_",
    "index:words": "INSERT INTO _entgldb_text_",
    "index:step": "UPDATE _entgldb_indexes SET reached",
    "index:drop": "DROP TRIGGER",
    "request:remember": "INSERT INTO _entgldb_requests",
    "origin:new": "INSERT INTO _entgldb_origins",
    "origin:head": "UPDATE _entgldb_origins",
    "state:save": "UPDATE _entgldb_state",
    "commit": "COMMIT",
    "expire:hide": "UPDATE _entgldb_documents SET body = NULL, sha256 = NULL, lsn",
    "expire:conflicts": "DELETE FROM _entgldb_conflicts WHERE id IN",
    "conflict:keep": "INSERT OR IGNORE INTO _entgldb_conflicts",
    "conflict:clear": "DELETE FROM _entgldb_conflicts",
    "successor:note": "INSERT OR IGNORE INTO _entgldb_successors",
    "held:keep": "INSERT INTO _entgldb_held",
    "held:release": "DELETE FROM _entgldb_held",
    "supply": "UPDATE _entgldb_oplog SET applied",
    "run:note": "INSERT OR REPLACE INTO _entgldb_runs",
    "fork": "INSERT INTO _entgldb_forks",
    "unfit:set-aside": "INSERT OR IGNORE INTO _entgldb_quarantine",
    "unfit:take": "DELETE FROM _entgldb_quarantine",
    "tidy:requests": "DELETE FROM _entgldb_requests",
    "tidy:clients": "INSERT INTO _entgldb_clients",
    "peer:remember": "INSERT OR REPLACE INTO _entgldb_peers",
    "incarnation:new": "INSERT INTO _entgldb_incarnations",
    "checkpoint": "PRAGMA wal_checkpoint",
    "prune:row": "DELETE FROM _entgldb_oplog",
    "prune:mark": "INSERT OR REPLACE INTO _entgldb_marks",
    "collect:row": "DELETE FROM _entgldb_documents WHERE id",
    "compact": "PRAGMA incremental_vacuum",
}
"""Killed right before the statement that begins so."""
DISK: Final = {
    "commit:disk": ("COMMIT", False),
    "commit:torn-write": ("COMMIT", True),
    "checkpoint:disk": ("PRAGMA wal_checkpoint", False),
    "checkpoint:torn-write": ("PRAGMA wal_checkpoint", True),
    "compact:disk": ("PRAGMA incremental_vacuum", False),
    "compact:torn-write": ("PRAGMA incremental_vacuum", True),
}
"""Killed inside; torn: half of what should be written is written first."""
AFTER_COMMIT: Final = "commit:after"
POINTS: Final = (*STATEMENTS, *DISK, AFTER_COMMIT)
FORGETTING: Final = tuple(point for point in POINTS if point.startswith(("prune", "collect", "compact")))
"""Those that only a life which forgets comes to."""


class KillingDisk(FaultyDisk):
    """A disk that kills this process at the places where a ``FaultyDisk`` fails."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.kill = kill
        super().__init__()

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: int, amount: int, offset: int) -> int:
            if self._fails():
                if self._torn:
                    real(file, data, amount // 2, offset)
                self.kill()
            return real(file, data, amount, offset)

        return write

    def _other(self, real: Callable[..., int], code: int) -> Callable[..., int]:
        def other(file: int, how: int) -> int:
            if self._fails():
                self.kill()
            return real(file, how)

        return other


class Trap:
    """Kills this process the ``times``-th time that it comes to a place."""

    def __init__(self, point: str, times: int, say: Callable[[dict[str, Any]], None]) -> None:
        self._point, self._left, self._say = point, times, say
        self._disk = KillingDisk(self.kill) if point in DISK else None
        self._begins = DISK[point][0] if point in DISK else STATEMENTS.get(point, "\0")

    def statement(self, sql: str) -> None:
        """SQLite is about to begin a statement."""
        if not sql.startswith(self._begins):
            return
        if self._disk is not None:
            # one of the first few things that this statement asks of the disk
            self._disk.arm(self._left, full=False, torn=DISK[self._point][1])
        else:
            self.passed()

    def committed(self) -> None:
        """A COMMIT is done, and nobody has been told yet."""
        if self._point == AFTER_COMMIT:
            self.passed()

    def passed(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.kill()

    def kill(self) -> None:
        """kill -9, from the inside."""
        self._say({"at": self._point})
        os.kill(os.getpid(), signal.SIGKILL)
