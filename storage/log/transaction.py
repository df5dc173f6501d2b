"""One transaction at a time, with the writer's memory put back whenever the file is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.authorship.signing import Signing
from entgldb.storage.file.faults import translated
from entgldb.storage.file.state import Moment, State
from entgldb.storage.log import requests

_UNKNOWN: Final = (ErrorCode.DISK_ERROR, ErrorCode.INTERNAL)
"""Failures of a commit after which it may be in the file all the same."""


class Age:
    """How long a store has had its file open, and what its wall clock has shown meanwhile."""

    def __init__(self, lived_ms: int) -> None:
        self._lived_from: float | None = None
        self._lived_before_ms = self._lived_ms = lived_ms
        self._shown_ms = 0

    def live(self, seconds: float, shown_ms: int) -> None:
        """``seconds`` of the monotonic clock have passed since some beginning."""
        if self._lived_from is None:
            self._lived_from = seconds
        self._lived_ms = self._lived_before_ms + max(0, int((seconds - self._lived_from) * 1000))
        self._shown_ms = shown_ms

    def tell(self, state: State) -> None:
        """Put it into the state of a transaction: the memory then agrees with the file."""
        state.lived_ms = max(state.lived_ms, self._lived_ms)
        state.shown_ms = max(state.shown_ms, self._shown_ms)
        self._shown_ms = 0


class Transaction:
    """``group`` and ``savepoint`` of ``ports.Store``, and the state that goes with the file."""

    def __init__(self, connection: sqlite3.Connection, undone: Callable[[], None]) -> None:
        """``undone`` is called whenever something was rolled back: data that was read meanwhile is void."""
        self.connection = connection
        self.state = State.load(connection)
        requests.recall_answers(connection, self.state)
        self.age = Age(self.state.lived_ms)
        self.signing = Signing(connection)
        self._undone = undone
        self._unchanged = 0
        """How many rows the connection had changed in all when the transaction began."""

    def need_group(self) -> None:
        """Raise EntglError outside of any group."""
        if not self._busy():
            raise EntglError("writing needs a group around it")

    @contextmanager
    def group(self) -> Iterator[None]:
        """One transaction: BEGIN IMMEDIATE ... COMMIT; ROLLBACK when it raises.

        An SQLite error becomes an EntglError: ``disk-full``, ``disk-error``, ``corrupt``, ``in-use``,
        ``internal``.
        """
        if self._busy():
            raise EntglError("a group cannot be inside another")
        self.state.begin()
        before = self.state.moment()
        committing = False
        try:
            self._begin()
            self.age.tell(self.state)
            yield
            self.signing.before_commit(self.state)
            follows = self.state.follows()
            if not follows:
                requests.keep_answers(self.connection, self.state)
            self.state.save(self.connection, follows=follows)
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
        """Inside a group: undone alone when it raises; errors as in ``group``.

        The first that changes anything needs no savepoint of SQLite: before it there is nothing to keep.
        """
        if not self._busy():
            raise EntglError("a savepoint needs a group around it")
        before, first = self.state.moment(), self.connection.total_changes == self._unchanged
        if not first:
            self.connection.execute("SAVEPOINT request")
        try:
            yield
            self.signing.after_request(self.state)
        except BaseException as fault:
            self._restore(before)
            self._undo(first=first)
            if isinstance(fault, sqlite3.Error):
                raise translated(fault, "a request failed") from fault
            raise
        if not first:
            self.connection.execute("RELEASE request")

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._unchanged = self.connection.total_changes

    def _undo(self, *, first: bool) -> None:
        """Back to the savepoint. Raises EntglError ``disk-error`` where the whole transaction has ended."""
        try:
            if first:
                self.connection.execute("ROLLBACK")
                self._begin()
            else:
                self.connection.execute("ROLLBACK TO request")
                self.connection.execute("RELEASE request")
        except sqlite3.Error as fault:
            raise EntglError(f"the transaction is lost: {fault}", code=ErrorCode.DISK_ERROR) from fault

    def _busy(self) -> bool:
        return self.connection.in_transaction

    def _restore(self, before: Moment) -> None:
        self.state.back_to(before)
        self._undone()
