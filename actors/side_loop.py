"""The asyncio loop of an actor's edge: it moves bytes between sockets and the actor, and decides nothing.

It has no thread of its own: the host waits for its descriptor and its next timer, and ``drain`` lets it run
as far as it can. A thread had to be woken, and had to be handed the interpreter, twice for each frame.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import selectors
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVarTuple

from entgldb.actors.behaviour import Asker
from entgldb.messages.schema import Message

log = logging.getLogger(__name__)
_Ts = TypeVarTuple("_Ts")

END_SECONDS_MAX = 2.0
"""How long what runs in the loop may take to end in good order."""
ROUNDS_MAX: Final = 16
"""Rounds of the loop in one drain, while its own callbacks ask for more: then the actor has its turn."""
READ_BYTES: Final = 64 * 1024
"""Taken from one socket at once."""


class _Loop(asyncio.SelectorEventLoop):
    """Runs round by round, and tells when it wants its next one."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._wanted = False
        self._deadlines: list[float] = []
        super().__init__(selector)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        heapq.heappush(self._deadlines, when)
        return super().call_at(when, callback, *args, context=context)

    def due(self) -> float:
        """When it wants its next round, by the monotonic clock; a timer that was cancelled counts as well."""
        if self._wanted:
            return -math.inf
        return self._deadlines[0] if self._deadlines else math.inf

    def go_on(self) -> None:
        """Do all that can be done without waiting."""
        now = self.time()  # before the rounds: each runs at least the timers that are due by then
        for _ in range(ROUNDS_MAX):
            self._wanted = False
            super().call_soon(self.stop)
            self.run_forever()
            if not self._wanted:
                break
        while self._deadlines and self._deadlines[0] <= now:
            heapq.heappop(self._deadlines)


class SideLoop:
    """``start`` it in the actor's own process, wait for ``fileno()`` and ``due()``, and ``drain()`` then."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        """A link reads its socket into it, and is through with it before another link reads."""
        self._inbox: deque[tuple[Asker | None, Message]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._when_drained: list[Callable[[], object]] = []
        self._enders: list[Callable[[], Awaitable[object]]] = []
        self._selector = selectors.EpollSelector()
        self._loop = _Loop(self._selector)
        self._loop.set_exception_handler(self._on_loop_error)
        self._thread = 0

    def start(self) -> None:
        """From now on this thread drains. Not before the last fork of this process."""
        self._thread = threading.get_ident()

    def fileno(self) -> int:
        """The descriptor that is readable while ``drain`` has something to do."""
        return self._selector.fileno()

    def due(self) -> float:
        """When ``drain`` is wanted whatever the descriptor says, by the monotonic clock."""
        return self._loop.due()

    def drain(self) -> list[tuple[Asker | None, Message]]:
        """Let the loop run as far as it can; all that has arrived since the last call, in order."""
        self.go_on()
        return self.take()

    def go_on(self) -> None:
        """Let the loop run as far as it can."""
        if not self._loop.is_closed():
            self._loop.go_on()

    def take(self) -> list[tuple[Asker | None, Message]]:
        """All that has arrived since the last call, in order."""
        arrived = []
        while self._inbox:
            arrived.append(self._inbox.popleft())
        while self._when_drained:
            self.call(self._when_drained.pop())
        return arrived

    def backlog(self) -> int:
        """Messages posted and not yet drained."""
        return len(self._inbox)

    def when_drained(self, fn: Callable[[], object]) -> None:
        """Run ``fn`` in the loop after the next drain. Say so before posting, not after."""
        self._when_drained.append(fn)

    def at_end(self, ender: Callable[[], Awaitable[object]]) -> None:
        """Await ``ender()`` in the loop when it stops, for at most END_SECONDS_MAX."""
        self._enders.append(ender)

    def post(self, message: Message, asker: Asker | None = None) -> None:
        """Any thread: hand ``message`` to the actor."""
        self._inbox.append((asker, message))
        if threading.get_ident() != self._thread and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_nothing)  # wakes whoever waits for the descriptor

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Run ``fn(*args)`` in the loop, after all that was called before; never within this call."""
        if not self._loop.is_closed():
            self._loop.call_soon(self._work, fn, args)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run ``coroutine`` in the loop. An exception that it raises is logged."""
        if self._loop.is_closed():
            coroutine.close()
            return
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._finished)

    def stop(self) -> None:
        """End what runs, in good order if that is possible, and close. Harmless when repeated."""
        if self._loop.is_closed():
            return
        try:
            self._loop.run_until_complete(self._end())
            self._loop.run_until_complete(self._cancel_all())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _end(self) -> None:
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

    def _work(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            fn(*args)
        except Exception:
            log.exception("%s: %s failed", self.name, getattr(fn, "__qualname__", fn))

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("%s: a task of the side loop failed", self.name, exc_info=fault)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        log.error("%s: %s", self.name, facts.get("message"), exc_info=facts.get("exception"))


def _nothing() -> None:
    """Wakes the loop."""
