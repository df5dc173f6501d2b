"""Asks several actors and goes on when all have answered, or when patience ends."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import Context
from entgldb.messages.schema import Message


class Collector:
    """Hands ``done`` one answer per name (None: no answer came), exactly once."""

    Callback = Callable[[dict[str, Message | None], Context], None]

    def __init__(self, names: set[str], done: Callback, ctx: Context) -> None:
        self._answers: dict[str, Message | None] = dict.fromkeys(names)
        self._waiting = set(names)
        self._done: Collector.Callback | None = done
        self._ctx = ctx

    def answered(self, name: str, message: Message) -> None:
        """One answer; a second from the same actor or a late one changes nothing."""
        if name in self._waiting:
            self._waiting.remove(name)
            self._answers[name] = message
            if not self._waiting:
                self.finish()

    def finish(self) -> None:
        """Go on with what there is."""
        done, self._done = self._done, None
        if done is not None:
            done(self._answers, self._ctx)
