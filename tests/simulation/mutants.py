"""Mistakes put into production code, to see that the simulation notices: mutants test the checker.

Each is what a tired programmer might write. None touches the simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from entgldb.actors.behaviour import Context
from entgldb.actors.intake import Intake
from entgldb.actors.session import Session
from entgldb.messages import wire
from entgldb.messages.local import Applied, Apply
from entgldb.storage import apply
from entgldb.storage.batch import Batch
from entgldb.storage.rules import clock, merge
from entgldb.storage.rules.header import Header


@contextmanager
def gap_accepted() -> Iterator[None]:
    """Batches and entries out of turn are taken as if nothing were missing."""
    take, on_entries, link = Intake.take, Session._on_entries, merge.link

    def careless_take(self: Intake, batch: Apply, ctx: Context) -> Applied:
        self._next[batch.session] = (batch.round, batch.batch)
        return take(self, batch, ctx)

    def careless_entries(self: Session, message: wire.Entries, ctx: Context) -> None:
        self._received = message.batch
        on_entries(self, message, ctx)

    def careless_link(header: Header, head: merge.Head) -> merge.Link:
        found = link(header, head)
        return merge.Link.NEXT if found is merge.Link.GAP else found

    with ExitStack() as stack:
        stack.enter_context(patch.object(Intake, "take", careless_take))
        stack.enter_context(patch.object(Session, "_on_entries", careless_entries))
        stack.enter_context(patch.object(apply, "link", careless_link))
        yield


@contextmanager
def tie_without_origin() -> Iterator[None]:
    """Of two versions with equal clocks the later to arrive wins."""
    decide = merge.merge

    def careless(header: Header, current: Any, *, parent_covered: bool) -> merge.Merge:
        return decide(header._replace(origin="~"), current, parent_covered=parent_covered)

    with patch.object(apply, "merge", careless):
        yield


@contextmanager
def tombstone_dropped() -> Iterator[None]:
    """A delete removes the row, so that nothing remembers how new the delete was."""
    replace = Batch.replace

    def careless(self: Batch, header: Header, text: str | None, lsn: int, before: Any) -> None:
        replace(self, header, text, lsn, before)
        if text is None:
            self.flush()
            self.connection.execute(
                "DELETE FROM _entgldb_documents WHERE collection = ? AND key = ?",
                (header.collection, header.key),
            )

    with patch.object(Batch, "replace", careless):
        yield


@contextmanager
def no_receive_rule() -> Iterator[None]:
    """The clock does not move when a foreign entry is applied."""
    with patch.object(clock, "merge", lambda last, seen: last):
        yield


MUTANTS = {
    "gap accepted": gap_accepted,
    "tie without origin": tie_without_origin,
    "tombstone dropped": tombstone_dropped,
    "no receive rule": no_receive_rule,
}
