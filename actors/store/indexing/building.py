"""When the next step of building indexes is taken."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Store
from entgldb.messages.local.actors import BuildIndexes
from entgldb.messages.model import INDEXES


class Building:
    """Sees to it that steps are taken while there is something to build."""

    def __init__(self) -> None:
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
            ctx.after(after, BuildIndexes())

    def ask_again(self, ctx: Context) -> None:
        """A step may have been turned away, or have failed."""
        if self._asked:
            self._asked = False
            self.ask(ctx)

    def begin(self) -> None:
        """The step that was asked for begins."""
        self._asked = False
