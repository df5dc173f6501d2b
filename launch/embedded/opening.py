"""``entgldb.open``: the store of a directory in the caller's own process, without a node."""

from __future__ import annotations

import ctypes
import os
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from entgldb.actors.behaviour import Behaviour
from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.host.free_space import FreeSpace
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.oplog.snapshot_files import FileShelf
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.client.access import check_writable, refused
from entgldb.client.database import Database
from entgldb.launch.embedded.host import Host
from entgldb.launch.embedded.transport import EmbeddedTransport
from entgldb.launch.node.config import FILE_NAME, load
from entgldb.launch.node.files import Hold, remove_record
from entgldb.launch.node.init import default_node_id
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.model import check_node_id
from entgldb.messages.settings import OplogSettings, StoreSettings
from entgldb.storage.authorship.authors import Attest, no_attestation
from entgldb.storage.authorship.identity import owner_of
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.store import Store


def open(directory: str | os.PathLike[str] = ".", *, node_id: str = "") -> Database:
    """Open the documents of a directory in this process, without a node.

    The directory may be new, one that was opened before, or that of a node that is stopped; a node can be
    started in each of them later. ``node_id`` names the writer in a new one (by default a name is made from
    that of the host). While it is open, nobody else can open it and no node can start there. ``close``, the
    end of a ``with`` block and the end of the program give it back.

    Raises EntglError ``in-use``, ConfigError (another writer's, a newer format), NotAllowedError,
    CorruptError.
    """
    return opened(directory, node_id)[1]


def opened(directory: str | os.PathLike[str], node_id: str) -> tuple[Opened, Database]:
    """A directory that is held, and the API to it, which closes it."""
    held = Opened(Path(directory), node_id)
    made = Database(directory, transport=EmbeddedTransport(held))
    held.used_by(made)
    return held, made


class Opened:
    """A directory that this process holds, and what runs in it."""

    def __init__(self, directory: Path, node_id: str) -> None:
        if sys.platform != "linux":
            raise EntglError(
                f"databases are opened on Linux, this is {sys.platform}", code=ErrorCode.UNSUPPORTED
            )
        check_writable(directory)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise refused(fault) from None
        self.directory: Final = directory.resolve()
        self.closed = False
        self._hold = Hold(self.directory, opener=os.getpid())
        self._databases: list[weakref.ref[Database]] = []
        try:
            # of a node that was killed: nobody shall look for it
            remove_record(self.directory)
            self._actors = Actors(self.directory, node_id)
            self.host: Final = self._begun(str(directory))
        except BaseException:
            self._hold.end()
            raise
        _OPENED.append(self)

    def _begun(self, place: str) -> Host:
        try:
            return Host(place, self._actors.build)
        except BaseException:
            self._actors.drop()
            raise

    def used_by(self, database: Database) -> None:
        """Closed with it, by whoever lets go of it without a word, and at the end of the program."""
        self._databases.append(weakref.ref(database))
        weakref.finalize(database, self.close)

    def close(self) -> None:
        """Give the directory back; harmless when repeated. Raises BusyError from within its own work."""
        if self.closed:
            return
        try:
            self.host.close()
        finally:
            # not before nobody here writes any more
            if self.host.is_over():
                self.closed = True
                _OPENED.remove(self)
                self._hold.end()

    def leave_to_parent(self) -> None:
        """In a forked process: touch nothing, the directory stays with the one that has opened it."""
        # SQLite's files may not be closed here either, not even when this process ends
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        self.closed = True
        text = f"{self.directory} was opened before this process was forked: process {os.getppid()} has it"
        hint = "open it after the fork, in one process; or run a node and have all connect"
        why = partial(InvalidError, text, hint=hint)
        self.host.abandon(why)
        for one in self._databases:
            if (database := one()) is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))
                database.abandon(why)
        self._hold.let_go()


class Actors:
    """Makes the actors of a directory; anew, too, when their memory is not to be trusted any more."""

    def __init__(self, directory: Path, node_id: str) -> None:
        """As the node that is configured there, or as the writer of the file; ``node_id`` otherwise.

        Raises ConfigError, InvalidError where ``node_id`` is not that of the configuration.
        """
        self._directory = directory
        self._attest: Attest = no_attestation
        self._store: Store | None = None
        if (directory / FILE_NAME).exists():
            settings = load(directory)
            self._of_store, self._of_oplog = settings.store, settings.oplog
            if node_id not in ("", self._of_store.node_id):
                raise InvalidError(f"{directory} is that of node {self._of_store.node_id}, not {node_id}")
            if self._of_store.key_file:
                # certificates take long to import
                from entgldb.actors.tls.attestation import CaOfCluster

                self._attest = CaOfCluster(lambda: read_cluster_keys(self._of_store.key_file)).attest
        else:
            # a node that is made of it later has this key attested when it starts
            node_id = check_node_id(node_id or owner_of(directory) or default_node_id())
            self._of_store = StoreSettings(node_id, str(directory), "lan", "")
            self._of_oplog = OplogSettings(node_id, str(directory))

    def build(self, host: Host) -> Sequence[Behaviour]:
        """The store and its oplog, which has no peers to compare documents with."""
        now_ms = time.time_ns() // 1_000_000
        of_store, directory = self._of_store, self._directory
        if self._store is None:
            self._store = Store.open(directory, of_store.node_id, now_ms, self._attest, any_thread=True)
        else:
            self._store = Store.reopen(self._store, now_ms)
        connection, disk = self._store.connection, FreeSpace(directory)
        secrets = KeyedSecrets(of_store.key_file, of_store.cluster)
        return (
            StoreKeeper(of_store, self._store, secrets, disk),
            OplogKeeper(
                replace(self._of_oplog, verify_interval=0.0),
                LogReader(connection),
                Fingerprints(connection),
                FileShelf(host.post, directory),
                disk,
            ),
        )

    def drop(self) -> None:
        """Close the file of a start that has failed."""
        if self._store is not None:
            self._store.connection.close()


_OPENED: Final[list[Opened]] = []
"""Those of this process that are not closed."""


def _after_fork() -> None:
    for opened in _OPENED:
        opened.leave_to_parent()
    _OPENED.clear()


os.register_at_fork(after_in_child=_after_fork)
