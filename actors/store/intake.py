"""The last gate before the file: batches of a session are taken in order, or not at all.

If something was lost on the way here (a frame, an actor with its queue), the gap shows as a batch number out
of turn. Taking that batch would show an effect before its cause; so the session asks for a new round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import KeyRing, Store
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Applied, Apply, SessionEnded
from entgldb.messages.model import Author, Vector

BROKEN = -1
"""Next batch of a round in which one was refused: none."""


class Intake:
    """Applies verified batches and remembers, per session, which comes next."""

    def __init__(
        self, store: Store, count: Callable[[Reason, int], None], ring: KeyRing | None = None
    ) -> None:
        self._store = store
        self._count = count
        self._ring = ring
        self._next: dict[str, tuple[int, int]] = {}

    def take(self, batch: Apply, ctx: Context) -> Applied:
        """Apply one batch inside the running transaction."""
        if batch.supplied:
            self._store.applying.supply(batch.entries, ctx.now_ms())
            self._keep(batch.authors)
            return Applied(batch.session, batch.round, batch.batch, {})
        round_, expected = self._next.get(batch.session, (-1, 0))
        if batch.round > round_:
            expected = 0
        if batch.round < round_ or batch.batch != expected:
            self._count(Reason.OUT_OF_ORDER, 1)
            self._next[batch.session] = (max(round_, batch.round), BROKEN)
            return self.failed(batch, Reason.OUT_OF_ORDER.value)
        before = self._store.last_lsn()
        changes, refused = self._apply(batch, ctx)
        self._keep(batch.authors)
        if self._store.last_lsn() > before and batch.peer:
            self._store.note_arrival(before + 1, batch.peer, ctx.now_ms())
        refused = refused or batch.fault
        self._next[batch.session] = (batch.round, BROKEN if refused else expected + 1)
        return Applied(batch.session, batch.round, batch.batch, changes, refused)

    def _keep(self, authors: Sequence[Author]) -> None:
        """By the word of our own key, where we have one. Theirs may be by one of two that were made at once,
        and a cloud that we pass the log on to knows the one that counts alone.
        """
        ring = self._ring
        self._store.keep_authors(authors if ring is None else [ring.attested(author) for author in authors])

    def forget(self, ended: SessionEnded) -> None:
        """A session is over, or all of one owner are."""
        self._next = {name: place for name, place in self._next.items() if not ended.covers(name)}

    def forget_all(self) -> None:
        """A transaction was rolled back: every session must begin a new round."""
        self._next = {session: (round_, BROKEN) for session, (round_, _) in self._next.items()}

    @staticmethod
    def failed(batch: Apply, reason: str = Reason.STORE_BUSY.value) -> Applied:
        """The answer to a batch that was not taken."""
        return Applied(batch.session, batch.round, batch.batch, {}, reason)

    def _apply(self, batch: Apply, ctx: Context) -> tuple[Vector, str]:
        """Runs of entries to apply, and runs the sender had only recorded."""
        changes: Vector = {}
        only = set(batch.recorded)
        marked = [(batch.cloud or index in only, entry) for index, entry in enumerate(batch.entries)]
        for record_only, run in groupby(marked, key=lambda pair: pair[0]):
            entries = [entry for _, entry in run]
            done = self._store.apply(entries, ctx.now_ms(), cloud=record_only, peer=batch.peer)
            changes.update(done.changes)
            for reason, times in done.counts.items():
                self._count(Reason(reason), times)
            if done.refused:
                self._count(Reason(done.refused), 1)
                return changes, done.refused
        return changes, ""
