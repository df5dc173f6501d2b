"""Snapshots as files of the node's directory: ``ports.SnapshotShelf`` and ``ports.SnapshotChunks``.

``snapshots/ID.db`` is given away, ``snapshots/staging-ID.db`` is coming in. Both are SQLite files of a few
tables, for this node's user alone. A snapshot that an earlier process has frozen is removed at the start,
since nobody knows any more how old it is. A snapshot that was coming in stays, whatever the clocks say, so
that the node can go on with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import quote

from entgldb.messages.errors import EntglError
from entgldb.messages.local.snapshots import SnapshotWritten
from entgldb.messages.schema import Message
from entgldb.storage.file.faults import closed_on_fault, translating
from entgldb.storage.file.open import give_back, open_reader
from entgldb.storage.snapshot.freeze import freeze, read_chunk
from entgldb.storage.snapshot.staging import Staging

log = logging.getLogger(__name__)

SNAPSHOT_FOLDER: Final = "snapshots"
_STAGED: Final = "staging-"
_CACHE_KIB: Final = 2_048


class FileShelf:
    """For oplog. One thread at a time writes; all else is done at once."""

    def __init__(
        self,
        post: Callable[[Message], None],
        directory: str | Path,
        source: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        """``post``, called in that thread, hands oplog a message; ``source``, called there, too, opens the
        data where it is not in the directory."""
        self._post = post
        self._directory = Path(directory)
        self._source = source or partial(open_reader, self._directory)
        self._folder = self._directory / SNAPSHOT_FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._clear(lambda name: not name.startswith(_STAGED))

    def freeze(self) -> None:
        Thread(target=self._freeze, name="freeze", daemon=True).start()

    def discard(self, snapshot_id: str) -> None:
        _remove(self._folder / f"{snapshot_id}.db")

    def stage(self, snapshot_id: str) -> FileStaging:
        path = self._folder / f"{_STAGED}{snapshot_id}.db"
        self._clear(lambda name: name.startswith(_STAGED) and not name.startswith(path.name))
        return FileStaging(path)

    def unstage(self) -> None:
        self._clear(lambda name: name.startswith(_STAGED))

    def _freeze(self) -> None:
        part = self._folder / f"part-{os.getpid()}-{time.monotonic_ns()}.db"
        try:
            with (
                _faults(part),
                contextlib.closing(self._source()) as source,
                contextlib.closing(_create(part)) as target,
            ):
                # nobody reads it before it is whole, and a half one is worth nothing
                target.execute("PRAGMA journal_mode = OFF")
                target.execute("PRAGMA synchronous = OFF")
                made = freeze(source, target)
            part.rename(self._folder / f"{made.id}.db")
            done = SnapshotWritten(made)
        except (EntglError, OSError) as fault:
            _remove(part)
            text = fault.text if isinstance(fault, EntglError) else str(fault)
            done = SnapshotWritten(None, text)
        give_back()
        self._post(done)

    def _clear(self, goes: Callable[[str], bool]) -> None:
        for path in self._folder.iterdir():
            if goes(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()


class FileStaging:
    """``ports.StagedSnapshot`` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _faults(path):
            self._staging = self._open()

    @property
    def next(self) -> int:
        return self._staging.next

    def add_chunk(self, number: int, payload: bytes, digest: bytes) -> None:
        with _faults(self._path):
            self._staging.add_chunk(number, payload, digest)

    def finish(self, snapshot_id: str, *, whole: bool) -> str:
        """All chunks are here; the URI of the file, which nothing else holds while the store reads it."""
        with _faults(self._path):
            self._staging.finish(snapshot_id, whole=whole)
            self._staging.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return f"file:{quote(str(self._path.absolute()))}?mode=rw"

    def close(self) -> None:
        self._staging.connection.close()
        give_back()

    def drop(self) -> None:
        self.close()
        _remove(self._path)

    def _open(self) -> Staging:
        try:
            return _staging(self._path)
        except sqlite3.DatabaseError as fault:
            if isinstance(fault, sqlite3.OperationalError):
                raise
            # torn by a power cut: begin again
            log.warning("%s cannot be gone on with: %s", self._path.name, fault)
            _remove(self._path)
            return _staging(self._path)


class FileChunks:
    """For sync and gateway: ``ports.SnapshotChunks``. Keeps the last file open that was asked for."""

    def __init__(self, directory: str | Path) -> None:
        self._folder = Path(directory) / SNAPSHOT_FOLDER
        self._id = ""
        self._connection: sqlite3.Connection | None = None

    def chunk(self, snapshot_id: str, number: int) -> tuple[bytes, bytes] | None:
        path = self._folder / f"{snapshot_id}.db"
        if not snapshot_id.isalnum() or not path.exists():
            self._close()
            return None
        try:
            if self._id != snapshot_id or self._connection is None:
                self._close()
                self._connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
                self._id = snapshot_id
            return read_chunk(self._connection, number)
        except sqlite3.Error as fault:
            log.warning("snapshot %s cannot be read: %s", snapshot_id, fault)
            self._close()
            return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._id = None, ""


def _staging(path: Path) -> Staging:
    connection = _create(path)
    with closed_on_fault(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        # a power cut may lose the last chunks, which are then asked for again
        connection.execute("PRAGMA synchronous = NORMAL")
        return Staging(connection)


def _create(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as ours."""
    with translating(path):
        try:
            yield
        except OSError as fault:
            raise sqlite3.OperationalError(fault.strerror) from fault


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()
