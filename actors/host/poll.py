"""The selector of Thespian's transport: one poll(2) instead of an epoll descriptor made, filled and closed
every turn."""

from __future__ import annotations

import errno
import math
import os
import select
from selectors import EVENT_READ, EVENT_WRITE
from typing import NamedTuple


class Ready(NamedTuple):
    """The part of a ``selectors.SelectorKey`` that Thespian reads."""

    fd: int


class Poll:
    """The part of ``selectors.BaseSelector`` that Thespian's transport uses, for one turn."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        """Wait for EVENT_READ or EVENT_WRITE of ``fd``."""
        self._wanted[fd] = events
        wanted = select.POLLIN if events & EVENT_READ else 0
        self._poll.register(fd, wanted | (select.POLLOUT if events & EVENT_WRITE else 0))

    def select(self, timeout: float | None) -> list[tuple[Ready, int]]:
        """The descriptors that are ready within ``timeout`` seconds (None: whenever). OSError EBADF where
        one is closed."""
        found = []
        for fd, got in self._poll.poll(None if timeout is None else math.ceil(timeout * 1000)):
            if got & select.POLLNVAL:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            ready = (EVENT_READ if got & ~select.POLLOUT else 0) | (
                EVENT_WRITE if got & ~select.POLLIN else 0
            )
            found.append((Ready(fd), ready & self._wanted[fd]))
        return found

    def close(self) -> None:
        """Nothing was opened."""


class Selectors:
    """Stands in for the module ``selectors`` in Thespian's transport."""

    EVENT_READ = EVENT_READ
    EVENT_WRITE = EVENT_WRITE
    DefaultSelector = Poll
