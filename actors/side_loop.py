"""One asyncio loop in a thread: it moves bytes between sockets and the actor, and decides nothing.

Towards the actor there is a deque and one wake-up descriptor, written to once however much has
arrived; towards the loop there is another deque and one ``call_soon_threadsafe``. Waking for every
event instead costs three quarters of the throughput. Loop and thread begin with the first work that there is:
most nodes have no link to a cloud, and each pair costs its process half a megabyte.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from entgldb.actors.behaviour import Asker
from entgldb.actors.frame_room import with_room
from entgldb.messages.schema import Message

log = logging.getLogger(__name__)
Work = tuple[Callable[..., object], tuple[Any, ...]]

JOIN_SECONDS_MAX = 5.0
"""How long ``stop`` waits for the thread."""
END_SECONDS_MAX = 2.0
"""How long what runs in the loop may take to end in good order."""

READ_BYTES: Final = 64 * 1024
"""Taken from one socket at once."""
SWITCH_SECONDS: Final = 0.0005
"""How long one thread may keep the interpreter: with 5 ms a write is seen elsewhere 1.15 times as late."""


class SideLoop:
    """``start`` it in the actor's own process, watch ``fileno()``, and ``drain()`` when it is readable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        """Loop thread: a link reads its socket into it, and is through with it before another link reads."""
        self._inbox: deque[tuple[Asker | None, Message]] = deque()
        self._outbox: deque[Work] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._posted = self._called = self._started = self._stopped = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._when_drained: list[Callable[[], object]] = []
        self._enders: list[Callable[[], Awaitable[object]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Do what was called and what will be. Not before the last fork of this process."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._started = True
        if self._outbox:
            self._begin()

    def fileno(self) -> int:
        """The descriptor that is readable while ``drain`` would return something."""
        return self._receiver.fileno()

    def drain(self) -> list[tuple[Asker | None, Message]]:
        """Main thread: all that has arrived since the last call, in order."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self._receiver.recv(4096)
        # before the deque is emptied: a thread that posts from here on wakes us again
        self._posted = False
        arrived = []
        while self._inbox:
            arrived.append(self._inbox.popleft())
        while self._when_drained:
            self.call(self._when_drained.pop())
        return arrived

    def backlog(self) -> int:
        """Any thread: messages posted and not yet drained."""
        return len(self._inbox)

    def when_drained(self, fn: Callable[[], object]) -> None:
        """Loop thread: run ``fn`` in the loop after the next drain. Say so before posting, not after."""
        self._when_drained.append(fn)

    def at_end(self, ender: Callable[[], Awaitable[object]]) -> None:
        """Await ``ender()`` in the loop when that has begun and stops, for at most END_SECONDS_MAX."""
        self._enders.append(ender)

    def post(self, message: Message, asker: Asker | None = None) -> None:
        """Any thread: hand ``message`` to the main thread, waking it at most once until it drains."""
        self._inbox.append((asker, message))
        if not self._posted:
            self._posted = True
            try:
                self._sender.send(b"\0")
            except (BlockingIOError, InterruptedError):
                pass  # so many wake-ups are pending that one more adds nothing
            except OSError:
                log.debug("%s: posted after the stop", self.name)

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Main thread: run ``fn(*args)`` in the loop, after all that was called before."""
        self._outbox.append((fn, args))
        if self._loop is None:
            if self._started:
                self._begin()
        elif not self._called:
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._work)
            except RuntimeError:
                self._outbox.clear()  # the loop is closed: its links are gone as well

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run ``coroutine`` in the loop, from any thread. An exception that it raises is logged."""
        if self._stopped:
            coroutine.close()
        else:
            self.call(self._create, coroutine)

    def post_outcome(self, question: Coroutine[Any, Any, Message]) -> None:
        """Run ``question`` in the loop, and post the message that it comes to."""

        async def outcome() -> None:
            self.post(await question)

        self.spawn(outcome())

    def stop(self) -> None:
        """Main thread: cancel what runs, end the thread, close the descriptors. Harmless when repeated."""
        if self._stopped:
            return
        self._started, self._stopped = False, True
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(JOIN_SECONDS_MAX)
            if self._thread.is_alive():
                log.error("%s: the side loop did not end within %.0f s", self.name, JOIN_SECONDS_MAX)
                return
        self._drop_work()
        self._receiver.close()
        self._sender.close()

    def _begin(self) -> None:
        self._called = True
        loop = self._loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._on_loop_error)
        loop.call_soon(self._work)
        self._thread = threading.Thread(
            target=self._run, args=(loop,), name=f"side-loop-{self.name}", daemon=True
        )
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            with_room(loop.run_forever)
            loop.run_until_complete(self._end())
            loop.run_until_complete(self._cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    async def _end(self) -> None:
        self._work()
        enders = [asyncio.wait_for(ender(), END_SECONDS_MAX) for ender in self._enders]
        for outcome in await asyncio.gather(*enders, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("%s: did not end in good order", self.name, exc_info=outcome)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports report their closing one turn later

    def _work(self) -> None:
        self._called = False  # before the deque is emptied, as in drain
        while self._outbox:
            fn, args = self._outbox.popleft()
            try:
                fn(*args)
            except Exception:
                log.exception("%s: %s failed", self.name, getattr(fn, "__qualname__", fn))

    def _create(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("%s: a task of the side loop failed", self.name, exc_info=fault)

    def _drop_work(self) -> None:
        while self._outbox:
            _, args = self._outbox.popleft()
            for argument in args:
                if asyncio.iscoroutine(argument):
                    argument.close()

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        log.error("%s: %s", self.name, facts.get("message"), exc_info=facts.get("exception"))
