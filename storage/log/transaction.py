"""One transaction at a time, with the writer's memory put back whenever the file is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.authorship.signing import Signing
from entgldb.storage.file.faults import DatabaseFault, translated
from entgldb.storage.file.state import Moment, State
from entgldb.storage.log import requests
from entgldb.storage.log.append import Batch
from entgldb.storage.rules.results import Lasted

_UNKNOWN: Final = (ErrorCode.DISK_ERROR, ErrorCode.INTERNAL)
"""Failures of a commit after which it may be in the file all the same."""


class Age:
    """How long a store has had its file open, and what its wall clock has shown meanwhile."""

    def __init__(self, lived_ms: int) -> None:
        self._lived_from: float | None = None
        self._lived_before_ms = self._lived_ms = lived_ms
        self._shown_ms = self._believed_ms = 0

    def live(self, seconds: float, shown_ms: int, believed_ms: int) -> None:
        """``seconds`` of the monotonic clock have passed since some beginning."""
        if self._lived_from is None:
            self._lived_from = seconds
        self._lived_ms = self._lived_before_ms + max(0, int((seconds - self._lived_from) * 1000))
        self._shown_ms, self._believed_ms = shown_ms, believed_ms

    def tell(self, state: State) -> None:
        """Put it into the state of a transaction: the memory then agrees with the file."""
        state.lived_ms = max(state.lived_ms, self._lived_ms)
        state.shown_ms = max(state.shown_ms, self._shown_ms)
        state.time_ms = max(state.time_ms, self._believed_ms)
        self._shown_ms = self._believed_ms = 0


class _Request:
    """A request under way in a savepoint of its own."""

    __slots__ = ("before", "direct", "first", "lazily", "mark", "secured")

    def __init__(self, *, lazily: bool, first: bool) -> None:
        self.lazily = lazily
        self.first = first
        """Nothing was written before it: it is undone with the whole transaction."""
        self.secured = False
        """Whether it has a savepoint of SQLite."""
        self.before: Moment
        self.mark = (0, 0, 0)
        self.direct = 0


class Transaction:
    """``group`` and ``savepoint`` of a store, and the state that goes with the file."""

    def __init__(self, connection: sqlite3.Connection, undone: Callable[[], None]) -> None:
        """``undone`` is called whenever something was rolled back: data that was read meanwhile is void."""
        self.connection = connection
        self.state = State.load(connection)
        requests.recall_answers(connection, self.state)
        self.age = Age(self.state.lived_ms)
        self.signing = Signing(connection)
        self.batch = Batch(connection, self.state)
        """The rows of this node's own writes; several requests of a group share it."""
        self._request: _Request | None = None
        self._undone = undone
        self._unchanged = 0
        """How many rows the connection had changed in all when the transaction began."""

    def need_group(self) -> None:
        """Raise EntglError outside of any group."""
        if not self._busy():
            raise EntglError("writing needs a group around it")

    @contextmanager
    def group(self, clock: Callable[[], float] | None = None) -> Iterator[Lasted]:
        """One transaction: BEGIN IMMEDIATE ... COMMIT; ROLLBACK when it raises.

        ``clock``, in seconds: how long SQLite took over COMMIT is then known afterwards.
        An SQLite error becomes an EntglError: ``disk-full``, ``disk-error``, ``corrupt``, ``in-use``,
        ``internal``.
        """
        if self._busy():
            raise EntglError("a group cannot be inside another")
        self.state.begin()
        before = self.state.moment()
        committing, lasted = False, Lasted()
        try:
            self._begin()
            self.age.tell(self.state)
            yield lasted
            self.signing.before_commit(self.state)
            self.batch.flush()
            follows = self.state.follows()
            if not follows:
                requests.keep_answers(self.connection, self.state)
            self.state.save(self.connection, follows=follows)
            committing = True
            begun = 0.0 if clock is None else clock()
            self.connection.execute("COMMIT")
            lasted.seconds = 0.0 if clock is None else clock() - begun
        except BaseException as fault:
            self._restore(before)
            # a full disk may have ended the transaction already
            if self._busy():
                self.connection.execute("ROLLBACK")
            if isinstance(fault, sqlite3.Error):
                failed = translated(fault, "the commit failed")
                # a commit whose fsync failed may yet be found in the WAL by the next start
                undone = isinstance(fault, DatabaseFault) and fault.undone
                failed.definite = not committing or failed.code not in _UNKNOWN or undone
                raise failed from fault
            raise

    @contextmanager
    def savepoint(self, *, lazily: bool = False) -> Iterator[None]:
        """Inside a group: undone alone when it raises; errors as in ``group``.

        The first that changes anything needs no savepoint of SQLite: before it there is nothing to keep.
        ``lazily``: nothing is done in it but ``Writing.commit``, whose rows may wait for those of the next
        request; it calls ``secure`` where it does more than gather rows.
        """
        if not self._busy():
            raise EntglError("a savepoint needs a group around it")
        outer = self._request
        if not lazily:
            self.secure()
            self.batch.flush()
        first = self.connection.total_changes == self._unchanged and not self.batch.waits
        self._request = request = _Request(lazily=lazily, first=first)
        self._remember(request)
        try:
            if not lazily:
                self.secure()
            yield
            self._sign_much()
        except BaseException as fault:
            self._restore(request.before)
            self._undo(request)
            if isinstance(fault, sqlite3.Error):
                raise translated(fault, "a request failed") from fault
            raise
        finally:
            self._request = outer
        if request.secured:
            self.connection.execute("RELEASE request")

    def secure(self) -> None:
        """From here on the request that runs changes more than rows that wait: SQLite has to undo it."""
        request = self._request
        if request is not None and not request.first and not request.secured:
            self.batch.flush()
            self.connection.execute("SAVEPOINT request")
            request.secured = True
            # what came before stays in the file, and so in memory
            self._remember(request)

    @property
    def gathers(self) -> bool:
        """Whether rows may wait for those of the next request."""
        return self._request is not None and self._request.lazily

    def _remember(self, request: _Request) -> None:
        request.before, request.mark = self.state.moment(), self.batch.mark()
        request.direct = self._direct()

    def _direct(self) -> int:
        """Rows that were changed, without those that had waited."""
        return self.connection.total_changes - self.batch.flushed

    def _sign_much(self) -> None:
        """Sign where much has been written; then it waits no longer, either."""
        if self.signing.after_request(self.state):
            self.batch.flush()

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._unchanged = self.connection.total_changes
        self.batch.forget()

    def _undo(self, request: _Request) -> None:
        """Back to the savepoint. Raises EntglError ``disk-error`` where the whole transaction has ended."""
        try:
            if request.first:
                self.connection.execute("ROLLBACK")
                self._begin()
            elif request.secured:
                self.batch.forget()
                self.connection.execute("ROLLBACK TO request")
                self.connection.execute("RELEASE request")
            elif self._busy() and self._direct() == request.direct:
                self.batch.back_to(request.mark)
            else:
                raise EntglError("the transaction is lost", code=ErrorCode.DISK_ERROR)
        except sqlite3.Error as fault:
            raise EntglError(f"the transaction is lost: {fault}", code=ErrorCode.DISK_ERROR) from fault

    def _busy(self) -> bool:
        return self.connection.in_transaction

    def _restore(self, before: Moment) -> None:
        self.state.back_to(before)
        self._undone()
