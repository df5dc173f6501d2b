"""Each batch of foreign entries by an ``Applier`` of its own, with care once one of them cannot be merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from entgldb.messages.model import Entry, Origin, Version
from entgldb.storage.file.strangers import Strangers
from entgldb.storage.log import members, unfit
from entgldb.storage.log.append import Batch
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.unfit import CannotApply
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.results import Outcome

_T = TypeVar("_T")


class Applying:
    """Applies entries that other nodes wrote, within the group that runs."""

    def __init__(self, transaction: Transaction, kind: type[Applier] = Applier) -> None:
        self.kind = kind
        self.strangers = Strangers()
        self._transaction = transaction

    def apply(self, entries: Sequence[Entry], now_ms: int, *, cloud: bool = False, peer: str = "") -> Outcome:
        """As ``Store.apply``."""
        return self._setting_aside(
            lambda careful: self._applier(now_ms, careful, cloud=cloud, peer=peer).apply(entries)
        )

    def supply(self, entries: Sequence[Entry], now_ms: int) -> int:
        """Apply system entries that were recorded without being applied; how many."""
        return self._setting_aside(lambda careful: self._applier(now_ms, careful).supply(entries))

    def retry(self, version: Version, now_ms: int) -> Outcome:
        """Apply an entry from quarantine. Raises NotFoundError, or why it cannot be applied still."""
        try:
            return self._applier(now_ms).retry(version)
        except CannotApply as fault:
            raise fault.fault from fault

    def drop(self, version: Version) -> None:
        """Take an entry out of quarantine for good; it stays in the log. Raises NotFoundError."""
        self._transaction.need_group()
        unfit.withdraw(self._transaction.connection, self._transaction.state, version)

    def release(self, now_ms: int, accepted: Origin) -> Outcome:
        """Apply held entries that time has caught up with, and of ``accepted`` whatever its clock says."""
        outcome = self._setting_aside(lambda careful: self._applier(now_ms, careful).release(accepted))
        state = self._transaction.state
        if accepted and outcome.changes:
            state.shown_ms = max(state.shown_ms, ms_of(state.clock))
        return outcome

    def _applier(self, now_ms: int, careful: bool = False, *, cloud: bool = False, peer: str = "") -> Applier:
        self._transaction.need_group()
        connection, state = self._transaction.connection, self._transaction.state

        def admits(origin: Origin) -> bool:
            return self.strangers.admits(connection, len(state.origins), origin, peer, now_ms)

        def known_ms(at_ms: int) -> int:
            return members.known_ms(connection, state, at_ms)

        batch = Batch(connection, state)
        return self.kind(batch, now_ms, cloud=cloud, careful=careful, known_ms=known_ms, admits=admits)

    def _setting_aside(self, work: Callable[[bool], _T]) -> _T:
        """Do ``work``; where an entry cannot be merged, once more with care: it alone is set aside then."""
        try:
            with self._transaction.savepoint():
                return work(False)
        except CannotApply:
            with self._transaction.savepoint():
                return work(True)
