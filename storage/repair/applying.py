"""Each batch of foreign entries by an ``Applier`` of its own, with care once one of them cannot be merged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.model import EXPELLED, Entry, Origin, Version
from entgldb.storage.authorship import authors, words
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.file.state import Known
from entgldb.storage.log import members, unfit
from entgldb.storage.log.append import Batch
from entgldb.storage.log.apply import Applier, note_signature
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.unfit import CannotApply
from entgldb.storage.repair import healing
from entgldb.storage.repair.strangers import Strangers
from entgldb.storage.rules.authorship import head_statement
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.ended import PROOFS_MAX, ending, signatures_in
from entgldb.storage.rules.header import MERGE, body_text, decode
from entgldb.storage.rules.merging.row import read_merging
from entgldb.storage.rules.results import Outcome

_T = TypeVar("_T")


class Applying:
    """Applies entries that other nodes wrote, within the group that runs."""

    def __init__(self, transaction: Transaction, kind: type[Applier] = Applier) -> None:
        self.kind = kind
        self.strangers = Strangers(transaction.state.journal)
        self.proofs = dict[str, list[bytes]]()
        """Key of a word that the last batch with any brought -> the signatures in it: the log of its writer
        may end before it in the same batch, and what it proves has to be said again."""
        self._transaction = transaction

    def apply(self, entries: Sequence[Entry], now_ms: int, *, cloud: bool = False, peer: str = "") -> Outcome:
        """As ``Store.apply``."""
        state = self._transaction.state
        if state.is_out(peer):
            # its link ends at the next heartbeat. It may have expelled others, and gives what they caused
            # without the cause
            return Outcome({}, Reason.EXPELLED.value, Counter())
        outcome = self._setting_aside(
            lambda careful: self._applier(now_ms, careful, cloud=cloud, peer=peer).apply(entries)
        )
        members.go_along(self._transaction.connection, state, now_ms)
        if not state.ended:
            return outcome
        heard = state.uncut
        if heard:
            self.proofs = _proofs(entries)
        cut = self.cut_ended() if heard else {}
        # the word may come behind what it proves, and bring the proof
        self._sign_ends(state.origins if heard else outcome.changes)
        return outcome._replace(changes={o: head for o, head in outcome.changes.items() if o not in cut})

    def supply(self, entries: Sequence[Entry], now_ms: int) -> int:
        """Apply system entries that were recorded without being applied; how many."""
        supplied = self._setting_aside(lambda careful: self._applier(now_ms, careful).supply(entries))
        if self._transaction.state.uncut:
            self.cut_ended()
            self._sign_ends(self._transaction.state.origins)
        return supplied

    def _sign_ends(self, origins: Iterable[Origin]) -> None:
        state = self._transaction.state
        for origin in origins:
            known = state.origins[origin]
            if state.ended.get(origin) == known.head.seq:
                self._sign_end(origin, known)

    def _sign_end(self, origin: Origin, known: Known) -> None:
        """The last entry that counts of a node that was expelled: its signature is in the word of who did it.

        Here a later one may have proved the entry. Without its own nobody could be shown the end of that log.
        """
        connection, author = self._transaction.connection, authors.read(self._transaction.connection, origin)
        key, statement = ending(origin, known.head.seq), head_statement(known.head.hash)
        row = connection.execute(
            "SELECT body FROM _entgldb_documents WHERE collection = ? AND key = ? AND body IS NOT NULL",
            (EXPELLED, key),
        ).fetchone()
        for signature in [*self.proofs.get(key, ()), *signatures_in(row[0] if row else None)]:
            if author and is_signed(author.public_key, statement, signature):
                note_signature(connection, known.number, known.head.seq, signature)
                return

    def cut_ended(self) -> dict[Origin, int]:
        """Take out what was applied of a log behind its end; the first seq that went of each."""
        state, firsts = self._transaction.state, dict[Origin, int]()
        if state.uncut:
            words.take_back(self._transaction.connection, state)
        state.uncut = False
        for origin, known in state.origins.items() if state.ended else ():
            seq = state.end_of(origin)
            if seq is not None and known.head.seq > seq >= known.floor:
                firsts[origin] = seq + 1
        if firsts:
            healing.take_out(Batch(self._transaction.connection, state), firsts)
        return firsts

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
        if state.uncut:
            cut = self.cut_ended()
            self._sign_ends(state.origins)
            outcome = outcome._replace(changes={o: h for o, h in outcome.changes.items() if o not in cut})
        if accepted and outcome.changes:
            state.shown_ms = max(state.shown_ms, ms_of(state.clock))
        else:
            members.go_along(self._transaction.connection, state, now_ms)
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


def _proofs(entries: Iterable[Entry]) -> dict[str, list[bytes]]:
    found = defaultdict[str, list[bytes]](list)
    for entry in entries:
        with suppress(EntglError):  # a member may write what it likes
            header = decode(entry.header)
            if header.collection == EXPELLED and header.op == MERGE and entry.body:
                stamp = (header.hlc, header.origin)
                merging = read_merging(body_text(header, entry.body), stamp)
                found[header.key] += signatures_in(healing.own_fields(merging, stamp))
    return {key: list(dict.fromkeys(proofs))[:PROOFS_MAX] for key, proofs in found.items()}
