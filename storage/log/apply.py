"""Taking foreign entries: each checked against the chain of its origin, then merged, held or refused."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from entgldb.messages.errors import EntglError, ProtocolError, Reason, as_own
from entgldb.messages.limits import FORK_PROOFS_MAX, PAGE_ROWS_MAX
from entgldb.messages.model import EXPELLED, SYSTEM_PREFIX, Entry, Origin, Vector, Version, node_of
from entgldb.storage.authorship import words
from entgldb.storage.authorship.authors import authorities
from entgldb.storage.log import unfit
from entgldb.storage.log.append import Batch
from entgldb.storage.log.held import Held
from entgldb.storage.log.rows import merge_row, read_row
from entgldb.storage.log.unfit import APPLIED, RECORDED, UNFIT, CannotApply
from entgldb.storage.rules import clock
from entgldb.storage.rules.chain import NO_HEAD, Head, Link, link
from entgldb.storage.rules.ended import ended_by, read_expulsion
from entgldb.storage.rules.groups import Group, groups
from entgldb.storage.rules.header import DELETE, MERGE, Header, body_matches, body_text, decode, digest
from entgldb.storage.rules.results import Outcome


class Incoming(NamedTuple):
    """An entry taken apart."""

    header: Header
    raw: bytes
    digest: bytes
    body: bytes | None
    signature: bytes | None = None


class Applier:
    """One batch of foreign entries inside one transaction; make a new one for each.

    It raises CannotApply for an entry that it cannot merge; ``careful``, it merges each entry in a savepoint
    of its own and sets such a one aside.
    """

    def __init__(
        self,
        batch: Batch,
        now_ms: int,
        *,
        cloud: bool = False,
        careful: bool = False,
        known_ms: Callable[[int], int] = int,
        admits: Callable[[Origin], bool] = bool,
    ) -> None:
        self._admits = admits
        """Whether an origin that is not known yet is taken."""
        self._known_ms = known_ms
        """From our clock to the latest time that we can believe in."""
        self._careful = careful
        self.batch = batch
        self.connection = batch.connection
        self.state = batch.state
        self.now_ms = now_ms
        self.cloud = cloud
        self.changes: Vector = {}
        self.counts: Counter[str] = Counter()
        self.held = Held(batch.connection)
        self._refused: set[Origin] = set()
        """Origins of which something was not held for want of room."""

    def apply(self, entries: Sequence[Entry]) -> Outcome:
        """Take entries in order until one is refused; those before it stay applied."""
        refused = ""
        incoming = []
        for entry in entries:
            try:
                incoming.append(_taken_apart(entry))
            except ProtocolError:
                refused = Reason.BAD_ENTRY.value
                break
        self.batch.look_up([(one.header.collection, one.header.key) for one in incoming])
        for one, group in zip(incoming, groups([one.header for one in incoming]), strict=True):
            reason = self._take(one, group)
            if reason is not None:
                refused = reason.value
                break
            self.batch.hand_over()
        self.batch.flush()
        return Outcome(self.changes, refused, self.counts)

    def supply(self, entries: Sequence[Entry]) -> int:
        """Apply entries recorded earlier without being applied; how many."""
        applied = 0
        for entry in entries:
            try:
                one = _taken_apart(entry)
            except ProtocolError:
                self.counts[Reason.BAD_ENTRY.value] += 1
                continue
            if body_matches(one.header, one.body):
                applied += self._supply(one)
            else:
                self.counts[Reason.BAD_ENTRY.value] += 1
        self.batch.flush()
        return applied

    def release(self, accepted: Origin = "") -> Outcome:
        """Apply held entries that time has caught up with, whole groups only, as many as fit into one go.

        Of the origin ``accepted``, the first to go, whatever its clock says. Gives what moved.
        """
        held = self.state.held
        # one go a step: each has its bound
        if not self._release([accepted] if accepted in held else [], lambda hlc: False):
            self._release([origin for origin in held if origin != accepted], self._too_far_ahead)
        self.batch.flush()
        return Outcome(self.changes, "", self.counts)

    def _take(self, one: Incoming, group: Group) -> Reason | None:
        """Take one entry; the reason to stop the batch at it, or None."""
        header = one.header
        end = self.state.end_of(header.origin) if self.state.ended else None
        if end is not None and header.seq > end:
            out = self.state.is_out(node_of(header.origin))
            reason = Reason.EXPELLED if out else Reason.ENDED
            self.counts[reason.value] += 1
            return None
        if header.origin not in self.state.origins and not self._admits(header.origin):
            self.counts[Reason.TOO_MANY_ORIGINS.value] += 1
            return None
        match link(header, self._head(header.origin)):
            case Link.KNOWN:
                self._take_known(one)
            case Link.FORKED:
                self.counts[Reason.QUARANTINED.value] += 1
            case Link.GAP:
                return None if self._follows_what_had_no_room(one) else Reason.GAP
            case Link.FORK:
                self._note_fork(one)
            case Link.BACKWARDS:
                return Reason.BAD_ENTRY
            case Link.NEXT:
                return self._take_next(one, group)
        return None

    def _take_next(self, one: Incoming, group: Group) -> Reason | None:
        if not group.grows or not body_matches(one.header, one.body):
            return Reason.BAD_ENTRY
        self.state.known(self.connection, one.header.origin)
        self.state.disowned |= one.header.origin == self.state.own
        if one.header.origin in self.state.held or self._too_far_ahead(group.greatest):
            if one.header.group_index or not self.held.full():
                self._hold(one)
            else:
                self._no_room(one)
        else:
            self._record(one, cloud=self.cloud)
        return None

    def _take_known(self, one: Incoming) -> None:
        if one.header.seq <= self.state.origins[one.header.origin].floor:
            self.counts[Reason.DUPLICATE.value] += 1
            return
        ours, applied = self._recorded(one.header)
        if ours != one.digest:
            self._note_fork(one)
        elif not applied and not self.cloud and (one.body is not None or one.header.op == DELETE):
            self.supply([Entry(one.raw, one.body, one.signature)])
        else:
            self.counts[Reason.DUPLICATE.value] += 1
            if one.signature is not None:
                number = self.state.origins[one.header.origin].number
                note_signature(self.connection, number, one.header.seq, one.signature)

    def _record(self, one: Incoming, *, cloud: bool) -> None:
        header = one.header
        filtered = header.op != DELETE and one.body is None
        if filtered or (cloud and header.collection.startswith(SYSTEM_PREFIX)):
            self.counts[Reason.FILTERED.value] += 1
            lsn = self.batch.log(header, one.raw, one.digest, None, RECORDED, one.signature)
            text: str | EntglError | None = None
            applied = RECORDED
        else:
            text = self._text(one)
            applied = UNFIT if isinstance(text, EntglError) else APPLIED
            stored = unfit.as_kept(one.body) if isinstance(text, EntglError) else text
            lsn = self.batch.log(header, one.raw, one.digest, stored, applied, one.signature)
        head = self.state.origins[header.origin].head
        self.state.move(header.origin, Head(header.seq, one.digest, head.forked, header.hlc))
        self.changes[header.origin] = (header.seq, one.digest)
        self.state.clock = clock.advance(self.state.clock, header.hlc)
        end = ended_by(header)
        if end is not None:
            if cloud and self._is_of_one_cluster():
                words.note(self.connection, self.state, end, header.version)
            self.state.end(self.connection, *end)
        self._hear_of_expulsion(one, cloud=cloud)
        if isinstance(text, EntglError):
            self._set_aside(one, text)
        elif applied:
            self._merge_or_tell(one, text, lsn)

    def _text(self, one: Incoming) -> str | EntglError | None:
        """The body as text, or why the entry cannot be applied."""
        if one.body is None:
            return None
        try:
            return body_text(one.header, one.body)
        except EntglError as fault:
            return fault

    def _set_aside(self, one: Incoming, fault: EntglError) -> None:
        self.counts[Reason.UNFIT.value] += 1
        entry = Entry(one.raw, one.body)
        unfit.set_aside(self.connection, self.state, one.header, entry, fault, self.now_ms)

    def _merge_or_tell(self, one: Incoming, text: str | None, lsn: int) -> bool:
        """Merge; a failure of the entry's own, such as a bug met by it, must not stop what comes behind.

        False where it was set aside.
        """
        try:
            if self._careful:
                self._merge_alone(one.header, text, lsn)
            else:
                self.merge(one.header, text, lsn)
        except sqlite3.Error:
            raise
        except Exception as fault:
            if not self._careful:
                raise CannotApply(one.header.version, fault) from fault
            self.connection.execute(
                "UPDATE _entgldb_oplog SET applied = ? WHERE origin = ? AND seq = ?",
                (UNFIT, self.state.origins[one.header.origin].number, one.header.seq),
            )
            self._set_aside(one, as_own(fault))
            return False
        return True

    def _merge_alone(self, header: Header, text: str | None, lsn: int) -> None:
        """Merge in a savepoint: where it raises, nothing of it is left, in the file or in memory."""
        self.batch.flush()
        before = self.state.moment()
        self.connection.execute("SAVEPOINT entry")
        try:
            self.merge(header, text, lsn)
            self.batch.flush()
        except sqlite3.Error:
            raise  # it is the disk: all of the batch is undone
        except Exception:
            self.batch.forget()
            self.state.back_to(before)
            self.connection.execute("ROLLBACK TO entry")
            self.connection.execute("RELEASE entry")
            raise
        self.connection.execute("RELEASE entry")

    def merge(self, header: Header, text: str | None, lsn: int) -> None:
        """Merge an entry that is in the log."""
        batch = self.batch
        waits = frozenset[Version]()
        if self.state.unfit_logged:
            batch.flush()
            # no entry is merged into a row that cannot be read: each fails before it looks behind all others
            read_row(batch, header.collection, header.key)
            header, waits = unfit.replace_unfit(self.connection, self.state, header)
        named = header.named
        late = [version for version in named if self._is_late(version)] if self.state.ended else []
        missing = [one for one in named if one not in late and not self._applied(one, header.collection)]
        for version in sorted([*missing, *late]):
            forgotten = batch.note_successor(version)
            if forgotten:
                self.counts[Reason.PARENT_FORGOTTEN.value] += forgotten
        current = batch.current(header.collection, header.key)
        fields = header.op == MERGE or (current is not None and current.merged)
        missing = [version for version in missing if version not in waits]
        if missing and (fields or header.parent in missing):
            self.counts[Reason.PARENT_ABSENT.value] += 1
        if not fields and (current is None or current.yields_to((header.hlc, header.origin), named)):
            # nearly always; it needs to know neither the document that was there nor its leaves
            for version in named:
                batch.clear_conflict((header.collection, header.key), version)
            batch.replace(header, text, lsn, current)
        elif merge_row(batch, header, text, lsn):
            # nobody's fault and kept back from nobody: its next writer has to make it smaller
            self.counts[Reason.TOO_LARGE.value] += 1

    def _is_late(self, version: Version) -> bool:
        """Whether it is of an expelled node and may come behind what names it.

        That is as good as here: whatever it replaced, it says itself when it comes. Where it never comes it
        replaces nothing.
        """
        known = self.state.origins.get(version.origin)
        return (known is None or known.head.seq < version.seq) and self.state.may_still_come(version)

    def _applied(self, version: Version, collection: str) -> bool:
        """Whether our vector covers ``version`` and, in a system collection, it was applied too.

        Nothing that is behind the end of a log ever comes. It counts, as where it was here before the end:
        it is written again, and names all that it named. Of a node that was expelled it replaces nothing.
        """
        end = self.state.end_of(version.origin) if self.state.ended else None
        if end is not None and version.seq > end:
            return True
        known = self.state.origins.get(version.origin)
        if known is None or known.head.seq < version.seq:
            return False
        if not collection.startswith(SYSTEM_PREFIX) and not self.state.unfit_logged:
            return True
        self.batch.flush()
        row = self.connection.execute(
            "SELECT applied FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (known.number, version.seq)
        ).fetchone()
        return row is None or row[0] == APPLIED

    def retry(self, version: Version) -> Outcome:
        """Apply an entry from quarantine. Raises NotFoundError, or CannotApply: it stays there then."""
        one = _taken_apart(unfit.withdraw(self.connection, self.state, version))
        text = self._text(one)
        if isinstance(text, EntglError):
            raise CannotApply(version, text)
        number = self.state.origins[version.origin].number
        self.connection.execute(
            "UPDATE _entgldb_oplog SET applied = ?, body = ? WHERE origin = ? AND seq = ?",
            (APPLIED, text, number, version.seq),
        )
        # shown only now: change feeds that are past the log row are to hear of it
        self._merge_or_tell(one, text, self.state.next_lsn())
        self.batch.flush()
        return Outcome(self.changes, "", self.counts)

    def _supply(self, one: Incoming) -> int:
        header = one.header
        known = self.state.origins.get(header.origin)
        if known is None or (one.body is None and header.op != DELETE):
            return 0
        self.batch.flush()
        text = self._text(one)
        fault = text if isinstance(text, EntglError) else None
        stored = unfit.as_kept(one.body) if fault else text
        found = self.connection.execute(
            "UPDATE _entgldb_oplog SET applied = ?, body = ?, signature = ifnull(signature, ?)"
            " WHERE origin = ? AND seq = ? AND hash = ? AND applied = 0",
            (UNFIT if fault else APPLIED, stored, one.signature, known.number, header.seq, one.digest),
        ).rowcount
        if not found:
            if one.signature is not None:
                self._look_for_fork(one)
            return 0
        if isinstance(text, EntglError):
            self._set_aside(one, text)
            return 0
        if header.collection == EXPELLED and header.op != DELETE:
            self.state.expel(self.connection, header.key)
        return int(self._merge_or_tell(one, text, self.state.next_lsn()))

    def _hear_of_expulsion(self, one: Incoming, *, cloud: bool) -> None:
        """Expel the node that an entry names, at once: it is signed, and its stamp has no say in that.

        A cloud node goes by the headers of the one cluster whose CA it believes: in several, node ids may be
        the same. Any other node goes by what its own cluster has given it.
        """
        header = one.header
        if header.collection != EXPELLED or header.op == DELETE:
            return
        if not cloud:
            if one.body is not None:
                self.state.expel(self.connection, header.key)
        elif self._is_of_one_cluster():
            end = read_expulsion(header.key, self.state.own)
            if end is not None:
                words.note(self.connection, self.state, end, header.version)
                self.state.expel(self.connection, header.key)

    def _is_of_one_cluster(self) -> bool:
        return len(set(authorities(self.connection).values())) == 1

    def _look_for_fork(self, one: Incoming) -> None:
        """Quarantine the origin of a supplied entry that differs from ours at its place: it is of another
        branch."""
        origin = one.header.origin
        if self.state.origins[origin].floor < one.header.seq <= self._head(origin).seq:
            ours, _ = self._recorded(one.header)
            if ours != one.digest:
                self._note_fork(one)

    def _too_far_ahead(self, hlc: int) -> bool:
        """Whether a stamp waits. Others are asked for the time only where our own clock says that it does."""
        now_ms = self.now_ms
        return clock.too_far_ahead(hlc, now_ms) and clock.too_far_ahead(hlc, self._known_ms(now_ms))

    def _no_room(self, one: Incoming) -> None:
        self.counts[Reason.HELD_FULL.value] += 1
        self._refused.add(one.header.origin)
        self._hear_of_expulsion(one, cloud=self.cloud)

    def _follows_what_had_no_room(self, one: Incoming) -> bool:
        """Whether an entry that does not follow what we have would be held, if there were room."""
        origin = one.header.origin
        if origin not in self._refused:
            waits = origin in self.state.held or self._too_far_ahead(one.header.hlc)
            if not (waits and self.held.full()):
                return False
        self._no_room(one)
        return True

    def _hold(self, one: Incoming) -> None:
        header = one.header
        self.counts[Reason.HELD_CLOCK.value] += 1
        number = self.state.origins[header.origin].number
        entry = Entry(one.raw, one.body, one.signature)
        self.held.add(number, header.seq, one.digest, entry, cloud=self.cloud)
        self.state.held[header.origin] = Head(header.seq, one.digest, hlc=header.hlc)
        self._hear_of_expulsion(one, cloud=self.cloud)

    def _release(self, origins: Iterable[Origin], waits: Callable[[int], bool]) -> bool:
        """Whether any of them had a group to release."""
        numbers = [self.state.origins[origin].number for origin in origins]
        released: dict[Origin, tuple[int, int]] = {}
        for index, (number, entry, cloud) in enumerate(self.held.due(numbers, waits)):
            if index % PAGE_ROWS_MAX == 0:
                self.batch.flush()
            one = _taken_apart(entry)
            self._record(one, cloud=cloud)
            released[one.header.origin] = (number, one.header.seq)
        for origin, (number, seq) in released.items():
            self.held.remove(number, seq)
            last = self.state.held.get(origin)
            if last is not None and last.seq == seq:
                del self.state.held[origin]
        return bool(released)

    def _note_fork(self, one: Incoming) -> None:
        """Keep both proofs and take nothing more of this origin; all others go on."""
        origin = one.header.origin
        self.counts[Reason.FORK.value] += 1
        self.state.disowned |= origin == self.state.own
        number, head, *_ = self.state.known(self.connection, origin)
        ours = self._raw(number, min(one.header.seq, self._head(origin).seq))
        self.connection.execute(
            "INSERT INTO _entgldb_forks (origin, seq, ours, theirs, at_ms) SELECT ?, ?, ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM _entgldb_forks WHERE origin = ? AND theirs = ?)"
            # proofs of what was healed make room, those of what is undecided do not
            " AND (? = 1 OR (SELECT count(*) FROM _entgldb_forks WHERE origin = ?) < ?)",
            (
                *(number, one.header.seq, ours, one.raw, self.now_ms),
                *(number, one.raw, not head.forked, number, FORK_PROOFS_MAX),
            ),
        )
        self.connection.execute(
            "DELETE FROM _entgldb_forks WHERE origin = ? AND id NOT IN"
            " (SELECT id FROM _entgldb_forks WHERE origin = ? ORDER BY id DESC LIMIT ?)",
            (number, number, FORK_PROOFS_MAX),
        )
        self.state.move(origin, head._replace(forked=True))

    def _head(self, origin: Origin) -> Head:
        known = self.state.origins.get(origin)
        if known is None:
            return NO_HEAD
        held = self.state.held.get(origin)
        return known.head if held is None else held._replace(forked=known.head.forked)

    def _recorded(self, header: Header) -> tuple[bytes, bool]:
        """Hash of what we have at an entry's place, and whether it is more than recorded."""
        self.batch.flush()
        number = self.state.origins[header.origin].number
        row = self.connection.execute(
            "SELECT hash, applied FROM _entgldb_oplog WHERE origin = ? AND seq = ? UNION ALL"
            " SELECT hash, 1 FROM _entgldb_held WHERE origin = ? AND seq = ?",
            (number, header.seq) * 2,
        ).fetchone()
        return row[0], row[1] != RECORDED

    def _raw(self, number: int, seq: int) -> bytes:
        self.batch.flush()
        row = self.connection.execute(
            "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq = ? UNION ALL"
            " SELECT header FROM _entgldb_held WHERE origin = ? AND seq = ?",
            (number, seq) * 2,
        ).fetchone()
        return b"" if row is None else bytes(row[0])


def note_signature(connection: sqlite3.Connection, number: int, seq: int, signature: bytes) -> None:
    """The writer of a log has signed it up to an entry that stands here: a later one may have proved it."""
    connection.execute(
        "UPDATE _entgldb_oplog SET signature = ? WHERE origin = ? AND seq = ? AND signature IS NULL",
        (signature, number, seq),
    )


def _taken_apart(entry: Entry) -> Incoming:
    raw = entry.header
    return Incoming(decode(raw), raw, digest(raw), entry.body, entry.signature)
