"""The messages that a broker has not acknowledged yet, and how far the feed is done."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

from entgldb.integrations.place import Place

WINDOW: Final = 20
"""Messages without an acknowledgement; a further one waits. Brokers take so many by default."""
KEEP_SECONDS: Final = 1.0
"""The place is kept at least so often while messages flow, and whenever all are acknowledged."""


class Outgoing:
    """Counts acknowledgements, in whatever order they come. Safe from several threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, int | None]] = deque()
        """Token and message number of each change that is under way; no number where there is nothing to
        wait for."""
        self._early: set[int] = set()
        """Numbers that were acknowledged before ``sent`` was called."""
        self._open: set[int] = set()
        self._done = ""
        """The token up to which all is done, where it is not kept yet."""
        self._kept_at = time.monotonic()

    def room(self, seconds: float) -> bool:
        """Whether one more may be sent; waits for it for so long."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._open) < WINDOW, seconds)

    def sent(self, token: str, number: int | None) -> None:
        """A change was handed to the broker's connection; or none of it was to be sent (None)."""
        with self._changed:
            if number in self._early:
                self._early.discard(number)
            elif number is not None:
                self._open.add(number)
            self._waiting.append((token, number))
            self._go_on(idle=False)

    def acknowledged(self, number: int) -> None:
        """The broker has it."""
        with self._changed:
            if number in self._open:
                self._open.discard(number)
            else:
                self._early.add(number)
            self._go_on(idle=not self._open)
            self._changed.notify_all()

    def _go_on(self, *, idle: bool) -> None:
        while self._waiting and self._waiting[0][1] not in self._open:
            self._done = self._waiting.popleft()[0] or self._done
        now = time.monotonic()
        if self._done and (idle or now - self._kept_at >= KEEP_SECONDS):
            self._place.keep(self._done)
            self._done, self._kept_at = "", now
