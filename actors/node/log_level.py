"""The level of the log: that of the configuration, or another for a while."""

from __future__ import annotations

import math
from typing import Final

from entgldb.actors.behaviour import DEBUG, ERROR, INFO, WARNING, Context
from entgldb.messages.administration import SetLogLevel
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import LOG_LEVEL_SECONDS_MAX
from entgldb.messages.local.actors import Tick
from entgldb.messages.schema import Json

LEVELS: Final = {"DEBUG": DEBUG, "INFO": INFO, "WARNING": WARNING, "ERROR": ERROR}
LOG_LEVEL: Final = "log-level"


class LogLevel:
    """Of all actors of a node."""

    def __init__(self) -> None:
        self._ordered = ""
        self._ends_at = math.inf
        self._generation = 0

    def now(self, configured: str) -> str:
        """The level that counts."""
        return self._ordered or configured

    def order(self, message: SetLogLevel, ctx: Context) -> None:
        """Take another level, or that of the configuration again. Raises InvalidError."""
        if message.level not in ("", *LEVELS):
            raise InvalidError(f"{message.level:.20} is none of {', '.join(LEVELS)}")
        if not 0 <= message.seconds <= LOG_LEVEL_SECONDS_MAX:
            raise InvalidError(f"at most {LOG_LEVEL_SECONDS_MAX / 86_400:.0f} days")
        self._ordered = message.level
        self._generation += 1
        self._ends_at = math.inf
        if message.level and message.seconds:
            self._ends_at = ctx.monotonic() + message.seconds
            ctx.after(message.seconds, Tick(LOG_LEVEL, self._generation))

    def over(self, tick: Tick) -> bool:
        """Whether its time has passed, and that of the configuration counts again."""
        if tick.generation != self._generation:
            return False
        self._ordered = ""
        return True

    def report(self, configured: str, ctx: Context) -> dict[str, Json]:
        """For ``status``, and the answer to an order."""
        left = self._ends_at - ctx.monotonic() if self._ordered else math.inf
        return {
            "level": self.now(configured),
            "seconds": None if left == math.inf else round(max(0.0, left), 1),
        }
