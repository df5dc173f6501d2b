"""The wait of an actor's process: one poll(2) over what Thespian waits for and what the actor waits for.

Thespian's transport makes a selector every turn, waits, and goes round by way of a message. Here the actor's
own descriptors and timers are waited for beside Thespian's, and served without it: Thespian goes on when a
descriptor of its own is ready, its time is over, or the actor has given it a message to send.
"""

from __future__ import annotations

import errno
import math
import os
import select
import time
from collections.abc import Iterable
from selectors import EVENT_READ, EVENT_WRITE
from typing import NamedTuple, Protocol

Events = list[tuple["Ready", int]]


class Ready(NamedTuple):
    """The part of a ``selectors.SelectorKey`` that Thespian reads."""

    fd: int


class Waiter(Protocol):
    """The actor, as far as it waits."""

    @property
    def within(self) -> bool:
        """Whether one of its handlers runs: Thespian waits then for a handler's own sake."""

    def fds(self) -> Iterable[int]:
        """The descriptors whose being readable it waits for."""

    def due(self) -> float:
        """The time of the monotonic clock at which it wants its turn; infinite if no timer runs."""

    def turn(self) -> bool:
        """Serve all that is ready; whether Thespian has been given something to send. Never raises."""

    def forked(self) -> None:
        """In a process just forked from the actor's: let go of what is the parent's."""


class Poll:
    """The part of ``selectors.BaseSelector`` that Thespian's transport uses, for one turn."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._wanted: dict[int, int] = {}
        self._own: frozenset[int] = frozenset()

    def register(self, fd: int, events: int) -> None:
        """Wait for EVENT_READ or EVENT_WRITE of ``fd``."""
        self._wanted[fd] = events
        wanted = select.POLLIN if events & EVENT_READ else 0
        self._poll.register(fd, wanted | (select.POLLOUT if events & EVENT_WRITE else 0))

    def select(self, timeout: float | None) -> Events:
        """Thespian's descriptors that are ready within ``timeout`` seconds (None: whenever).

        The actor gets its turns meanwhile. OSError EBADF where a descriptor is closed.
        """
        waiter = Selectors.waiter
        if waiter is None or waiter.within:
            return self._ready(math.inf if timeout is None else timeout)
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._watch(frozenset(waiter.fds()))
            found = self._ready(min(end, waiter.due()) - time.monotonic())
            theirs = [one for one in found if one[0].fd not in self._own]
            served = len(theirs) < len(found) or time.monotonic() >= waiter.due()
            to_send = served and waiter.turn()
            if theirs or to_send or time.monotonic() >= end:
                return theirs

    def _watch(self, fds: frozenset[int]) -> None:
        if fds != self._own:
            for fd in self._own - fds:
                self._poll.unregister(fd)
            for fd in fds - self._own:
                self._poll.register(fd, select.POLLIN)
            self._own = fds

    def _ready(self, seconds: float) -> Events:
        found = []
        for fd, got in self._poll.poll(None if seconds == math.inf else math.ceil(max(0.0, seconds) * 1000)):
            if got & select.POLLNVAL:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            ready = (EVENT_READ if got & ~select.POLLOUT else 0) | (
                EVENT_WRITE if got & ~select.POLLIN else 0
            )
            found.append((Ready(fd), ready & self._wanted.get(fd, EVENT_READ)))
        return found

    def close(self) -> None:
        """Nothing was opened."""


class Selectors:
    """Stands in for the module ``selectors`` in Thespian's transport."""

    EVENT_READ = EVENT_READ
    EVENT_WRITE = EVENT_WRITE
    DefaultSelector = Poll
    waiter: Waiter | None = None
    """The actor of this process, once it has begun."""


def _forget_waiter() -> None:
    waiter, Selectors.waiter = Selectors.waiter, None
    if waiter is not None:
        waiter.forked()


# a child has its parent's memory: it must not serve its parent's actor
os.register_at_fork(after_in_child=_forget_waiter)
