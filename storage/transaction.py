"""One transaction at a time, with the writer's memory put back whenever the file is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.database import translated
from entgldb.storage.log import LogQueries
from entgldb.storage.state import State

_UNKNOWN: Final = (ErrorCode.DISK_ERROR, ErrorCode.INTERNAL)
"""Failures of a commit after which it may be in the file all the same."""


class Transactions(LogQueries):
    """``group`` and ``savepoint`` of ``ports.Store``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.state = State.load(connection)

    @contextmanager
    def group(self) -> Iterator[None]:
        """One transaction: BEGIN IMMEDIATE ... COMMIT; ROLLBACK when it raises.

        An SQLite error becomes an EntglError: ``disk-full``, ``disk-error``, ``corrupt``, ``in-use``,
        ``internal``.
        """
        if self._busy():
            raise EntglError("a group cannot be inside another")
        before = self.state.copy()
        committing = False
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._age()
            yield
            self.state.save(self.connection)
            committing = True
            self.connection.execute("COMMIT")
        except BaseException as fault:
            self._restore(before)
            # a full disk may have ended the transaction already
            if self._busy():
                self.connection.execute("ROLLBACK")
            if isinstance(fault, sqlite3.Error):
                failed = translated(fault, "the commit failed")
                # a commit whose fsync failed may yet be found in the WAL by the next start
                failed.definite = not committing or failed.code not in _UNKNOWN
                raise failed from fault
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a group: undone alone when it raises; errors as in ``group``."""
        if not self._busy():
            raise EntglError("a savepoint needs a group around it")
        before = self.state.copy()
        self.connection.execute("SAVEPOINT request")
        try:
            yield
        except BaseException as fault:
            self._restore(before)
            self._undo()
            if isinstance(fault, sqlite3.Error):
                raise translated(fault, "a request failed") from fault
            raise
        self.connection.execute("RELEASE request")

    def _undo(self) -> None:
        """Back to the savepoint. Raises EntglError ``disk-error`` where the whole transaction has ended."""
        try:
            self.connection.execute("ROLLBACK TO request")
            self.connection.execute("RELEASE request")
        except sqlite3.Error as fault:
            raise EntglError(f"the transaction is lost: {fault}", code=ErrorCode.DISK_ERROR) from fault

    def _age(self) -> None:
        """Take over what clocks say: with the transaction, so that memory is what the file is."""

    def _busy(self) -> bool:
        return self.connection.in_transaction

    def _restore(self, before: State) -> None:
        self.state = before
        self._names.clear()
