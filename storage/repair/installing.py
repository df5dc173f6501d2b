"""From a staged snapshot to documents, vector and own unsent writes, step by step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from entgldb.messages.errors import Reason
from entgldb.messages.model import EXPELLED, Origin, node_of
from entgldb.storage.authorship import runs, words
from entgldb.storage.file.faults import translating
from entgldb.storage.log import members
from entgldb.storage.log.append import Batch
from entgldb.storage.log.recorded import vouches
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.repair import healing
from entgldb.storage.repair.incarnations import Incarnations
from entgldb.storage.repair.rewrite import Tail, last_seen
from entgldb.storage.repair.strangers import Strangers
from entgldb.storage.rules import clock
from entgldb.storage.rules.chain import NO_HEAD, Head
from entgldb.storage.rules.comparing.chunks import Preface
from entgldb.storage.rules.ended import any_log, end_of_expelled, read_expulsion
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.rules.results import Installed
from entgldb.storage.snapshot.install import Merger
from entgldb.storage.snapshot.staging import read_head
from entgldb.storage.snapshot.steps import Progress, Steps, name_of

_WORDS: Final = f"SELECT key FROM staged.documents WHERE collection = '{EXPELLED}' AND body IS NOT NULL"  # noqa: S608 -- a constant


class Installing:
    """Merges a staged snapshot, each step in a ``group`` of its own."""

    def __init__(
        self,
        transaction: Transaction,
        incarnations: Incarnations,
        strangers: Strangers,
        group: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._transaction = transaction
        self._incarnations = incarnations
        self._strangers = strangers
        self._group = group

    def step(
        self, staged: str, entropy: bytes, now_ms: int, *, cloud: bool, peer: str, ends: bool
    ) -> Installed | None:
        """One step of merging a staged snapshot, in a transaction of its own; None: there are more.

        Raises EntglError; the step has changed nothing then. ``staged``: what ``StagedSnapshot.finish`` gave.
        ``entropy``: 32 bytes nobody can guess. ``cloud``: it came by a cloud link. ``peer``: the node that
        gave it. ``ends``: others hear of it where this node ends its log to write the rest again.
        """
        connection, state = self._transaction.connection, self._transaction.state
        with _attached(connection, staged):
            head, name = read_head(connection, "staged"), name_of(connection)
            if Steps(connection, state).progress() is None:
                # what is refused, or brings nothing, costs no transaction
                *_, refused = self._look(head, now_ms, cloud=cloud, peer=peer, ends=ends)
                if refused is not None:
                    return refused
            return self._step(head, name, entropy, now_ms, cloud=cloud, peer=peer, ends=ends)

    def _step(
        self, head: Preface, name: str, entropy: bytes, now_ms: int, *, cloud: bool, peer: str, ends: bool
    ) -> Installed | None:
        """All is read within the group: where several processes have one tenant, others write between two."""
        connection, state = self._transaction.connection, self._transaction.state
        steps = Steps(connection, state)
        with self._group():
            at = steps.progress()
            firsts = {} if at is None else at.firsts
            merger = Merger(connection, state, head, cloud=cloud, firsts=firsts)
            if at is not None and steps.is_anothers(at, name):
                return Installed({}, Reason.STORE_BUSY.value)
            if at is not None and (at.over or not steps.goes_on(at, merger, name)):
                steps.remove(at)
                return None
            if at is not None and not steps.is_walked(merger, at):
                steps.walk(merger, at)
                return None
            return self._begin_or_end(at, name, head, entropy, now_ms, cloud=cloud, peer=peer, ends=ends)

    def tidy(self) -> bool:
        """One step of removing what a merge has left; whether it did anything."""
        steps = Steps(self._transaction.connection, self._transaction.state)
        if not steps.is_left(steps.progress()):
            return False
        with self._group():
            # another process may have done it, or begun the next
            at = steps.progress()
            if at is not None and steps.is_left(at):
                steps.remove(at)
        return True

    def _begin_or_end(
        self,
        at: Progress | None,
        name: str,
        head: Preface,
        entropy: bytes,
        now_ms: int,
        *,
        cloud: bool,
        peer: str,
        ends: bool,
    ) -> Installed | None:
        """Both look whether it may be merged: what came in between may have changed that."""
        connection, state = self._transaction.connection, self._transaction.state
        steps = Steps(connection, state)
        branches, ended, refused = self._look(head, now_ms, cloud=cloud, peer=peer, ends=ends)
        strangers = None
        if refused is None:
            strangers = self._strangers.in_snapshot(connection, state, head.vector(), peer, cloud=cloud)
        if branches is None or strangers is None:
            if at is not None:
                steps.forsake()
            if refused is None:
                self._strangers.left_out(now_ms)
            return refused or Installed({}, Reason.TOO_MANY_ORIGINS.value)
        cuts = self._cuts(ended)
        firsts = _earliest(cuts, branches)
        if at is not None and at.firsts != firsts:
            steps.forsake()
            return None
        if at is None and not steps.is_small():
            own = state.own
            self._write_no_fork(head, branches, entropy, now_ms)
            merger = Merger(connection, state, head, cloud=cloud, firsts=firsts)
            steps.begin(merger, name, own, firsts)
            self._strangers.note(peer, strangers)
            return None
        self._take_out(ended, cuts, branches, expected=at is not None)
        done = self._install(at, head, entropy, now_ms, cloud=cloud, ends=ends)
        if branches:
            done = self._with_dropped(done, entropy, now_ms)
        self._strangers.note(peer, strangers)
        return done

    def _look(
        self, head: Preface, now_ms: int, *, cloud: bool, peer: str, ends: bool
    ) -> tuple[dict[Origin, int] | None, dict[Origin, int], Installed | None]:
        """Branches that it ends here, ends of logs that it brings, and the end of it where it is refused."""
        branches = self._branches(head)
        # a cloud has no say in where the log of a member ends
        ended = {} if cloud and ends else self._ends(head)
        return branches, ended, self._refusal(head, branches, ended, now_ms, cloud=cloud, peer=peer)

    def _take_out(
        self,
        ended: Mapping[Origin, int],
        cuts: Mapping[Origin, int],
        branches: Mapping[Origin, int],
        *,
        expected: bool,
    ) -> None:
        """``expected``: see ``healing.take_out``, which tells in the end what the branches had."""
        connection, state = self._transaction.connection, self._transaction.state
        for origin, seq in ended.items():
            words.keep(connection, origin, seq)
            state.end(connection, origin, seq)
        for firsts in filter(None, (cuts, branches)):
            healing.take_out(Batch(connection, state), firsts, expected=expected)
        state.disowned |= state.own in branches

    def _write_no_fork(
        self, head: Preface, branches: Mapping[Origin, int], entropy: bytes, now_ms: int
    ) -> None:
        """Others may have more of our log than we, or another branch: it must not be written between the
        steps."""
        state = self._transaction.state
        known = state.origins.get(state.own)
        ahead = known is not None and _covered(head, state.own).seq > known.head.seq
        if ahead or state.own in branches:
            self._incarnations.reincarnate(entropy, Why.ROLLED_BACK, now_ms)

    def _refusal(
        self,
        head: Preface,
        branches: dict[Origin, int] | None,
        ended: Mapping[Origin, int],
        now_ms: int,
        *,
        cloud: bool,
        peer: str,
    ) -> Installed | None:
        """The end of it where it cannot be merged, or brings nothing."""
        connection, state = self._transaction.connection, self._transaction.state
        if clock.too_far_ahead(head.clock, members.known_ms(connection, state, now_ms)):
            return Installed({}, Reason.HELD_CLOCK.value)
        if state.is_out(peer) or self._brings_what_counts_nowhere(head, ended):
            return Installed({}, Reason.EXPELLED.value)
        if branches is None:
            return Installed({}, Reason.QUARANTINED.value)
        if not branches and self._is_covered(head, cloud=cloud):
            return Installed({})
        return None

    def _ends(self, head: Preface) -> dict[Origin, int]:
        """Where logs end by the word of the giver, and by what its documents say: of itself it has no ear."""
        connection, own = self._transaction.connection, self._transaction.state.own
        found = {mark.name: mark.end for mark in head.marks if mark.end is not None}
        for (key,) in connection.execute(_WORDS):
            end = read_expulsion(key, own)
            if end is not None:
                found[end[0]] = min(end[1], found.get(end[0], end[1]))
        return found

    def _brings_what_counts_nowhere(self, head: Preface, ended: Mapping[Origin, int]) -> bool:
        """Whether it covers more of an expelled node than counts, by what is known here or in it."""
        known = self._transaction.state.ended
        every = {**ended, **{one: min(seq, ended.get(one, seq)) for one, seq in known.items()}}
        ends = ((mark.seq, end_of_expelled(every, mark.name)) for mark in head.marks if mark.seq)
        return any(end is not None and seq > end for seq, end in ends)

    def _with_dropped(self, done: Installed, entropy: bytes, now_ms: int) -> Installed:
        """Keep the documents of our branches, as after the heal of a fork."""
        state = self._transaction.state
        before = state.vector()
        lost = self._incarnations.log_dropped(lambda: digest(entropy), now_ms, whole=True)
        kept = {origin: head for origin, head in state.vector().items() if head != before.get(origin)}
        own_last = state.lsn if state.own in kept else done.own_last
        return done._replace(changes=done.changes | kept, own_last=own_last, lost=lost)

    def _cuts(self, ends: Mapping[Origin, int]) -> dict[Origin, int]:
        """The first entries behind the ends of logs: a snapshot is without them, and so has the file to be
        that it meets. Of a node that was expelled the giver need not know each log that is here."""
        firsts, state = {}, self._transaction.state
        for origin, known in state.origins.items() if ends else ():
            is_left = origin not in state.ended and node_of(origin) != node_of(state.own)
            end = ends.get(origin, ends.get(any_log(node_of(origin))) if is_left else None)
            if end is not None and known.head.seq > end >= known.floor:
                firsts[origin] = end + 1
        return firsts

    def _is_covered(self, head: Preface, *, cloud: bool) -> bool:
        """Whether it brings nothing: it was merged before, or the log has brought it meanwhile."""
        connection = self._transaction.connection
        if head.system and not cloud and not vouches(connection):
            return False
        heads = {origin: known.head for origin, known in self._transaction.state.origins.items()}
        ours = [(heads.get(mark.name, NO_HEAD), mark.seq) for mark in head.marks]
        return all(known.seq >= seq for known, seq in ours)

    def _branches(self, head: Preface) -> dict[Origin, int] | None:
        """The logs of which we have another branch than the snapshot, and its first entry; None: a fork that
        waits for its proofs, or for a decision.

        Rows and vector of the snapshot would say what our branch has not seen. Where the giver has pruned its
        own nobody can prove the fork, or choose ours: it is the end of our log, from the first run on that
        theirs does not know. (Stamps tell as much only where clocks have not gone back.)
        """
        connection, found = self._transaction.connection, dict[Origin, int]()
        for mark in head.marks:
            known = self._transaction.state.origins.get(mark.name)
            if known is None or not mark.seq:
                continue
            row = connection.execute(
                "SELECT hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (known.number, mark.seq)
            ).fetchone()
            ours = known.head.hash if mark.seq == known.head.seq else row and row[0]
            differs = ours is not None and ours != mark.head
            apart = 0
            if ours != mark.head:
                apart = runs.parted(connection, known, mark.runs, mark.seq, differs=differs)
            # stamps grow along a chain
            later = mark.seq > known.head.seq and known.head.hlc >= mark.hlc
            if not (later or apart) and (ours == mark.head or (ours is None and not known.head.forked)):
                # what is pruned here may have been of either branch
                continue
            first = healing.first_ahead(connection, known.number, known.head.seq, mark.hlc)
            first = min(first, apart or first)
            there = known.floor < first <= min(mark.seq, known.head.seq)
            if known.head.forked or mark.floor < mark.seq or not there:
                return None
            found[mark.name] = first
        return found

    def _install(
        self, at: Progress | None, head: Preface, entropy: bytes, now_ms: int, *, cloud: bool, ends: bool
    ) -> Installed:
        connection, state = self._transaction.connection, self._transaction.state
        before = state.vector()
        behind = any(mark.floor > before.get(mark.name, (0, b""))[0] for mark in head.marks)
        merger = Merger(connection, state, head, cloud=cloud)
        if at is None:
            merger.merge()
        else:
            Steps(connection, state).finish(merger, at)
        changes = merger.changes
        old, ahead = state.own, state.own in changes or state.disowned
        theirs = {mark.name: mark.seq for mark in head.marks}
        batch = Batch(connection, state)
        tail = Tail(batch, old, _covered(head, old), last_seen(batch, old, theirs))
        reissued = own_last = 0
        if ahead or (behind and tail.exists() and tail.is_whole()):
            why = Why.ROLLED_BACK if ahead else Why.SNAPSHOT
            # the old log ends there, and nobody can sign it later
            self._transaction.signing.at(state, tail.covered.seq, tail.covered.hash)
            new = self._incarnations.reincarnate(entropy, why, now_ms)
            if not ahead:
                reissued = tail.write_again(new, now_ms, ends=ends)
                tail.drop()
                if ends:
                    state.end(connection, old, tail.covered.seq)
                own_last = state.lsn if reissued else 0
            if reissued:
                changes[new] = (state.origins[new].head.seq, state.origins[new].head.hash)
        members.go_along(connection, state, now_ms)
        return Installed(
            changes,
            "",
            merger.taken,
            merger.deleted,
            reissued,
            own_last,
            reborn=state.own != (old if at is None else at.own),
        )


def _earliest(*firsts: Mapping[Origin, int]) -> dict[Origin, int]:
    """The earliest entry of each log that is to be taken out."""
    found = dict[Origin, int]()
    for one in firsts:
        for origin, first in one.items():
            found[origin] = min(first, found.get(origin, first))
    return found


def _covered(head: Preface, origin: Origin) -> Head:
    """How far a snapshot has an origin's log."""
    return next((Head(m.seq, m.head, hlc=m.hlc) for m in head.marks if m.name == origin and m.seq), NO_HEAD)


@contextmanager
def _attached(connection: sqlite3.Connection, staged: str) -> Iterator[None]:
    """ATTACH is not possible inside a transaction, and a failed one is the staged file's fault."""
    with translating("the staged snapshot cannot be opened"):
        connection.execute("ATTACH ? AS staged", (staged,))
    try:
        with translating("the staged snapshot cannot be read"):
            yield
    finally:
        connection.execute("DETACH staged")
