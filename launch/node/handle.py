"""A node as a child process of a Python program, and its actors by ask and tell."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from entgldb.launch.node.child import end, end_with_parent, environment
from entgldb.launch.node.files import POLL, read_record, wait_stopped
from entgldb.launch.node.process import START_SECONDS
from entgldb.messages.errors import EntglError, NoAnswerError, NoNodeError
from entgldb.messages.schema import Message

STOP_SECONDS = 5.0
ASK_SECONDS = 5.0


def ask(directory: str | Path, actor: str, message: Message, timeout: float = ASK_SECONDS) -> Message:
    """Thespian's ask to an actor of the node running in ``directory``; its answer, Refused included.

    Raises NoNodeError when no node runs there, NoAnswerError when no answer comes in ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        with _attached(Path(directory)) as system:
            try:
                return system.ask(actor, message, max(0.05, deadline - time.monotonic()))  # type: ignore[no-any-return]  # thespian is imported late
            except NoAnswerError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(POLL)  # the node actor is being started again: its address is another


def tell(directory: str | Path, actor: str, message: Message, timeout: float = ASK_SECONDS) -> None:
    """Thespian's tell: handed over, nobody says what became of it. Raises as ``ask``."""
    with _attached(Path(directory)) as system:
        system.tell(actor, message, timeout)


def _attached(directory: Path) -> contextlib.AbstractContextManager[Any]:
    record = read_record(directory)
    from entgldb.actors.host.system import attached  # Thespian is imported by those who need it

    return attached(directory.resolve(), record["ports"]["admin"], record["ports"]["node"])


def launch(directory: str | Path, *, timeout: float = START_SECONDS, http: str | None = None) -> Node:
    """Start the node of ``directory`` as a child process; return when all its actors serve.

    ``http``: serve HTTP at this ``host:port``, too; ``record["http"]`` is then the URL. Raises EntglError
    with what the node said when it does not come up within ``timeout`` seconds.
    """
    node = Node(Path(directory).resolve(), http=http)
    try:
        node.wait_ready(timeout)
    except BaseException:
        node.stop()
        raise
    return node


class Node:
    """A node started by ``launch``; a context manager that stops it."""

    def __init__(self, directory: Path, *, with_parent: bool = False, http: str | None = None) -> None:
        """``with_parent``: end, too, when the thread that starts the node ends, even by SIGKILL."""
        self.directory = directory
        self.process = subprocess.Popen(  # noqa: S603 -- this very interpreter and package
            [
                sys.executable,
                "-m",
                "entgldb",
                "start",
                "-d",
                str(directory),
                *(["--http", http] if http else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            preexec_fn=end_with_parent if with_parent else None,
        )

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Return when ``node.json`` of this very process is there."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(NoNodeError):
                if read_record(self.directory)["pid"] == self.process.pid:
                    return
            if self.process.poll() is not None:
                said = self.process.communicate()[1].strip()
                raise EntglError(f"the node in {self.directory} did not start: {said}")
            if time.monotonic() > deadline:
                raise NoAnswerError(f"the node in {self.directory} was not ready in {timeout:.0f} s")
            time.sleep(POLL)

    @property
    def record(self) -> dict[str, Any]:
        """The contents of ``node.json``: pid, ports, pids."""
        return read_record(self.directory)

    def ask(self, actor: str, message: Message, timeout: float = ASK_SECONDS) -> Message:
        """The answer of one of its actors; see ``ask``."""
        return ask(self.directory, actor, message, timeout)

    def tell(self, actor: str, message: Message) -> None:
        """Hand a message to one of its actors; see ``tell``."""
        tell(self.directory, actor, message)

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End the node in good order, or by force after ``timeout`` seconds. Harmless when repeated."""
        if self.process.poll() is None:
            end(self.process, timeout)
        if self.process.stderr is not None:
            self.process.stderr.close()
        wait_stopped(self.directory, STOP_SECONDS)

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
