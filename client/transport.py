"""``Transport``: the way from a ``Database`` to the file and its writer; and the way by a node's socket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from entgldb.client.access import check_access
from entgldb.messages.client import Commit, Follow
from entgldb.messages.errors import BusyError, InvalidError, NoAnswerError, NoNodeError, NotFoundError
from entgldb.storage.documents.query import Documents

if TYPE_CHECKING:
    from entgldb.client.wire import WireClient
    from entgldb.messages.schema import Message

RETRY_SECONDS: Final = 0.05
"""Between two attempts to reach a node whose store is being restarted."""
FOLLOW_SECONDS: Final = 2.0
"""How long a node has to promise its pushes."""


class News(Protocol):
    """Tells that something was committed."""

    def wait_pushed(self, timeout: float) -> bool:
        """Wait so many seconds for a commit; whether one came since the last call.

        Raises EntglError when none is told here any more.
        """
        ...

    def close(self) -> None:
        """Be told no more."""
        ...


class Transport(Protocol):
    """The file of a node, and the way to its writer. Safe to use from several threads.

    ``timeout`` and ``patience`` are in seconds. A request raises what it was refused with.
    """

    def attach(self, patience: float) -> None:
        """Make sure that a writer is there. Raises NoNodeError, BusyError."""
        ...

    def open_documents(self) -> Documents:
        """The file, opened for reading. Raises NoNodeError."""
        ...

    def request(self, message: Message, timeout: float) -> Message:
        """The answer of the store. Raises NoAnswerError where none came in time."""
        ...

    def begin(self, message: Message, timeout: float) -> Callable[[], Message]:
        """Send a request to the store; the function returned waits for the answer, as ``request``."""
        ...

    def ask(self, actor: str, message: Message, timeout: float) -> Message:
        """The answer of an actor to an admin message. Raises NoNodeError where it is not there."""
        ...

    def ask_aside(self, actor: str, message: Message, timeout: float) -> Message:
        """As ``ask``, once, of what may take long: it keeps nobody else waiting."""
        ...

    def follow(self) -> News:
        """Be told of commits from now on. Raises EntglError where nobody tells."""
        ...

    def now(self) -> float:
        """Seconds of the clock that timeouts here are measured by."""
        ...

    def pause(self, seconds: float) -> None:
        """Let so many seconds of it pass."""
        ...

    def let_go(self) -> None:
        """Give back what the next call can have anew."""
        ...

    def close(self) -> None:
        """Give back everything, for good. Harmless when repeated."""
        ...


class SocketTransport:
    """The way by the socket of the node that runs in ``directory``.

    A connection that breaks is made anew and the same request sent again: its request id keeps it from
    being done twice.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        self._wire: WireClient | None = None
        self._lost_at: float | None = None
        self._closed = False

    def attach(self, patience: float) -> None:
        with self._lock:
            self._attached(patience)

    def open_documents(self) -> Documents:
        check_access(self._directory)
        try:
            return Documents.open(self._directory)
        except NotFoundError:
            raise NoNodeError(
                f"no node is running in {self._directory}",
                hint=f"entgldb start --dir {self._directory}",
            ) from None

    def request(self, message: Message, timeout: float) -> Message:
        return self._insist(lambda wire, left: wire.request(message, left), timeout, message)

    def begin(self, message: Message, timeout: float) -> Callable[[], Message]:
        deadline = time.monotonic() + timeout
        sent: tuple[WireClient, int] | None = None
        with self._lock, contextlib.suppress(NoNodeError, NoAnswerError, BusyError):
            wire = self._attached(timeout)
            sent = wire, wire.send(message, timeout)

        def finish(wire: WireClient, left: float) -> Message:
            if sent is not None and sent[0] is wire:
                return wire.answer(sent[1], left)
            return wire.request(message, left)

        def answer() -> Message:
            left = max(deadline - time.monotonic(), RETRY_SECONDS)
            return self._insist(finish, left, message, sent=sent is not None)

        return answer

    def ask(self, actor: str, message: Message, timeout: float) -> Message:
        return self._insist(lambda wire, left: wire.relay(actor, message, left), timeout)

    def ask_aside(self, actor: str, message: Message, timeout: float) -> Message:
        from entgldb.client.wire import WireClient

        wire = WireClient(self._directory, timeout)
        try:
            return wire.relay(actor, message, timeout)
        finally:
            wire.close()

    def follow(self) -> News:
        from entgldb.client.wire import WireClient

        # a connection of its own: that of the requests waits for their answers
        wire = WireClient(self._directory)
        try:
            wire.request(Follow(), FOLLOW_SECONDS)
        except BaseException:
            wire.close()
            raise
        return wire

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def let_go(self) -> None:
        with self._lock:
            if self._wire is not None:
                self._wire.close()
            self._wire = None

    def close(self) -> None:
        self._closed = True
        self.let_go()

    def _attached(self, patience: float) -> WireClient:
        """The connection, made where there is none. Raises InvalidError after ``close``."""
        if self._closed:
            raise closed()
        if self._wire is None:
            check_access(self._directory)
            # each verb imports what it uses: a cold `get` is mostly imports
            from entgldb.client.wire import WireClient

            self._wire = WireClient(self._directory, patience)
            self._lost_at = None
        return self._wire

    def _insist(
        self,
        send: Callable[[WireClient, float], Message],
        timeout: float,
        message: Message | None = None,
        *,
        sent: bool = False,
    ) -> Message:
        begun = time.monotonic()
        while True:
            left = max(begun + timeout - time.monotonic(), RETRY_SECONDS)
            try:
                with self._lock:
                    wire = self._attached(left)
                    sent = True
                    return send(wire, left)
            except (NoNodeError, NoAnswerError, BusyError) as fault:
                self._detach()
                if isinstance(fault, NoNodeError) and not sent and not self._may_return(timeout):
                    raise
                waited = time.monotonic() - begun
                if waited + RETRY_SECONDS >= timeout:
                    if isinstance(fault, BusyError) and not sent:
                        raise
                    from entgldb.client.wire import no_answer

                    request = message.request if isinstance(message, Commit) else None
                    raise no_answer(self._directory, waited, fault, request) from None
                time.sleep(RETRY_SECONDS)

    def _detach(self) -> None:
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._lost_at = time.monotonic()
            self._wire = None

    def _may_return(self, timeout: float) -> bool:
        """Whether the node was here so lately that it may be in the middle of a restart."""
        return self._lost_at is not None and time.monotonic() - self._lost_at < timeout


def closed() -> InvalidError:
    """The error of a database that was closed."""
    return InvalidError("this database was closed", hint="connect to it, or open it, again")
