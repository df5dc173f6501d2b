"""When the next step of building indexes is taken, and how large it is."""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Store
from entgldb.messages.limits import INDEX_STEP_ROWS
from entgldb.messages.local.actors import BuildIndexes
from entgldb.messages.model import INDEXES

STEP_SECONDS: Final = 0.05
"""A step that took longer is followed by a smaller one: others wait for it. Its commit comes on top."""
STEP_ROWS_MIN: Final = 10


class Building:
    """Sees to it that steps are taken while there is something to build."""

    def __init__(self) -> None:
        self.rows = INDEX_STEP_ROWS
        """Documents of the next step."""
        self.number = 0
        """Of the step that was asked for last."""
        self._asked = False
        self._wanted: list[tuple[str, bytes]] = []

    def begin_at(self, store: Store, ctx: Context) -> None:
        """The node starts: an index may be half built, or one that every node had may not be wanted now."""
        if store.tends_indexes():
            self.ask(ctx)

    def look(self, store: Store, ctx: Context) -> None:
        """When other indexes are wanted everywhere than before, there is something to do."""
        wanted = list(store.documents(INDEXES))
        if wanted != self._wanted:
            self._wanted = wanted
            self.ask(ctx)

    def ask(self, ctx: Context, after: float = 0.0) -> None:
        """Have a step taken soon; one at a time."""
        if not self._asked:
            self._asked = True
            self.number += 1
            ctx.after(after, BuildIndexes(self.number))

    def ask_again(self, ctx: Context) -> None:
        """A step may have been turned away, or have failed. Where it is yet to come, this one replaces it."""
        if self._asked:
            self._asked = False
            self.ask(ctx)

    def replaced(self, message: BuildIndexes) -> bool:
        """Whether another step has been asked for since: two that each ask for the next would go on side by
        side."""
        return message.number != self.number

    def took(self, seconds: float) -> None:
        """The step that was asked for is done."""
        self._asked = False
        wanted = self.rows * STEP_SECONDS / seconds if seconds > 0 else INDEX_STEP_ROWS
        # no sooner than it has been seen, and one quick step does not make a slow machine fast
        self.rows = int(max(STEP_ROWS_MIN, min(INDEX_STEP_ROWS, 2 * self.rows, wanted)))
