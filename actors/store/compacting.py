"""Giving free pages back to the disk: one step after the other, with the commits of others in between.

And memory back to the system, once nothing has been written for a while.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Store
from entgldb.messages.errors import EntglError
from entgldb.messages.local.actors import Tick
from entgldb.messages.local.members import CompactFile, FileCompacted

REST: Final = "rest"
REST_SECONDS: Final = 3.0
"""From the last write to when the memory that writes need is given back."""


class Compacting:
    """The steps that are under way; whoever orders a second time begins anew."""

    def __init__(self) -> None:
        self._step = self._before = 0
        self._began = self._longest = 0.0

    def step(self, message: CompactFile, store: Store, ctx: Context) -> None:
        """Take one step, and order the next or tell oplog of the end."""
        now = ctx.monotonic()
        if not message.step:
            self._before, self._began, self._longest = 0, now, 0.0
        elif message.step != self._step:
            # of steps that were begun anew: two that each order the next would go on side by side
            return
        try:
            before, after, more = store.compact_step()
        except EntglError as fault:
            ctx.tell("oplog", FileCompacted(0, 0, 0.0, 0.0, fault.code.value, fault.text, fault.hint))
            return
        ended = ctx.monotonic()
        self._before = self._before or before
        self._longest = max(self._longest, ended - now)
        if more:
            self._step += 1
            ctx.after(0.0, CompactFile(self._step))
        else:
            ctx.tell("oplog", FileCompacted(self._before, after, ended - self._began, self._longest))


class Resting:
    """At most one timer runs, and none where nothing is written."""

    def __init__(self) -> None:
        self._at = 0.0
        self._runs = False

    def worked(self, ctx: Context) -> None:
        """The log has grown."""
        self._at = ctx.monotonic()
        if not self._runs:
            self._runs = True
            ctx.after(REST_SECONDS, Tick(REST))

    def tick(self, store: Store, ctx: Context) -> None:
        """It is time, or was when the timer was set."""
        left = self._at + REST_SECONDS - ctx.monotonic()
        self._runs = left > 0
        if self._runs:
            ctx.after(left, Tick(REST))
        else:
            store.rest()
