"""``entgldb.aio.open``: the same for asyncio. Turns are taken in a thread: no fsync stops a loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from entgldb.client.aio.database import IN_FLIGHT, Database, Opening
from entgldb.client.transport import closed
from entgldb.client.wire import unless_refused
from entgldb.launch.embedded import opening
from entgldb.launch.embedded.host import Answer, Follower
from entgldb.launch.embedded.transport import Opened, checked, refuse_absent
from entgldb.messages.errors import EntglError, NoAnswerError
from entgldb.messages.schema import Message


class open(Opening):  # noqa: N801 -- its public name, read as a function
    """Open the documents of a directory in this process, without a node: ``async with open("DIR") as db``.

    Or ``db = await open("DIR")``, and ``await db.close()`` at the end. As ``entgldb.open`` otherwise;
    ``in_flight`` bounds the requests that wait for answers.
    """

    def __init__(
        self, directory: str | os.PathLike[str] = ".", *, node_id: str = "", in_flight: int = IN_FLIGHT
    ) -> None:
        super().__init__(self._opened)
        self._directory, self._node_id, self._in_flight = directory, node_id, in_flight

    async def _opened(self) -> Database:
        opened, blocking = await asyncio.to_thread(opening.opened, self._directory, self._node_id)
        return Database(blocking, Requests(opened, self._in_flight))


class Asked(NamedTuple):
    """A request that a task waits for."""

    answer: Answer
    future: asyncio.Future[Message]


class Requests:
    """Implements ``client.aio.transport.Transport``: requests of one turn of the loop share a commit."""

    def __init__(self, opened: Opened, in_flight: int) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._opened, self._host = opened, opened.host
        self._slots = asyncio.Semaphore(in_flight)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="entgldb-write")
        self._loop = asyncio.get_running_loop()
        self._asked: deque[Asked] = deque()
        """Put before the host, and in no turn yet that was begun here."""
        self._due = False
        """Whether a turn is going to be taken for them."""
        self._follower: Follower | None = None
        self._closed = False

    async def attached(self) -> None:
        self._host.check()

    async def request(self, message: Message) -> Message:
        refuse_absent(message, self._opened.directory)
        put = checked(message)
        async with self._slots:
            if self._closed:
                raise closed()
            asked = Asked(Answer(), self._loop.create_future())
            self._host.put(put, asked.answer)
            self._asked.append(asked)
            if not self._due:
                self._due = True
                # what other tasks ask in this turn of the loop comes with it
                self._loop.call_soon(self._submit)
            return unless_refused(await asked.future)

    async def follow(self) -> None:
        if self._follower is None:
            self._follower = await self._loop.run_in_executor(self._thread, self._host.follow, self._pushed)
        elif self._host.due():
            # nobody else may be there to do it
            await self._loop.run_in_executor(self._thread, self._host.tend)

    def close(self) -> None:
        self._closed = True
        if self._follower is not None:
            self._follower.close()
        if self._asked:
            self._submit()
        self._thread.shutdown(wait=False)

    def _submit(self) -> None:
        # closed meanwhile: then a turn was taken for all
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._take_turns)

    def _take_turns(self) -> None:
        """In the thread: until all that was asked by now is carried out."""
        self._due = False
        taken, fault = self._taken(), None
        try:
            self._host.turn()
            while self._host.waiting and any(asked.answer.message is None for asked in taken):
                self._host.turn()
        except EntglError as why:
            fault = why
        finally:
            # a loop that has ended waits for nothing
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, taken, fault)
                if self._host.builds():
                    self._loop.call_soon_threadsafe(self._loop.call_later, self._host.rest(), self._submit)

    def _taken(self) -> list[Asked]:
        return [self._asked.popleft() for _ in range(len(self._asked))]

    def _deliver(self, taken: list[Asked], fault: EntglError | None) -> None:
        for answer, future in taken:
            if future.done():
                continue
            if answer.message is not None:
                future.set_result(answer.message)
            else:
                future.set_exception(fault or NoAnswerError("the turn was broken off", definite=False))

    def _pushed(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()
