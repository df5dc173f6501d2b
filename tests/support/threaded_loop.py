"""A side loop that runs in a thread: for a test whose own thread blocks at the other end of a socket."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from entgldb.actors.behaviour import Asker
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.schema import Message

POLL_SECONDS = 0.5
JOIN_SECONDS = 10.0


class ThreadedLoop(SideLoop):
    """The test's thread is the actor: it waits for ``fileno()`` and drains."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._runner = threading.Thread(target=self._run, name=f"side-loop-{name}", daemon=True)
        self._over = False

    def start(self) -> None:
        self._runner.start()

    def fileno(self) -> int:
        return self._receiver.fileno()

    def due(self) -> float:
        return math.inf

    def drain(self) -> list[tuple[Asker | None, Message]]:
        with contextlib.suppress(OSError):
            self._receiver.recv(4096)
        return self.take()

    def post(self, message: Message, asker: Asker | None = None) -> None:
        super().post(message, asker)
        with contextlib.suppress(OSError):
            self._sender.send(b"\0")

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._work, fn, args)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if self._runner.is_alive() and threading.current_thread() is not self._runner:
            self._loop.call_soon_threadsafe(super().spawn, coroutine)
        else:
            super().spawn(coroutine)

    def stop(self) -> None:
        if self._runner.is_alive():
            self._over = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(int)
            self._runner.join(JOIN_SECONDS)
            assert not self._runner.is_alive()
        super().stop()
        self._receiver.close()
        self._sender.close()

    def _run(self) -> None:
        super().start()
        while not self._over:
            seconds = min(POLL_SECONDS, max(0.0, super().due() - time.monotonic()))
            select.select([self._selector], [], [], seconds)
            self.go_on()
        super().stop()
