"""The only writer of a node's file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Final

from entgldb.messages.administration import Event
from entgldb.messages.client import RequestId, Write
from entgldb.messages.local.members import Collected, Prune, Pruned
from entgldb.messages.model import (
    EXPELLED,
    Author,
    Entry,
    Origin,
    Place,
    Vector,
    Version,
    check_node_id,
    node_of,
)
from entgldb.messages.schema import Json
from entgldb.messages.wire import Copy, Member
from entgldb.storage.audit.rows import Act
from entgldb.storage.audit.trail import Trail
from entgldb.storage.authorship import authors
from entgldb.storage.authorship.authors import Attest, no_attestation
from entgldb.storage.authorship.identity import Identity
from entgldb.storage.documents import expiring
from entgldb.storage.documents.resolving import resolving, undeleting
from entgldb.storage.file import compacting, fingerprint
from entgldb.storage.file import open as database
from entgldb.storage.file.faults import closed_on_fault, translating
from entgldb.storage.file.state import State
from entgldb.storage.file.wal_watch import WalWatch
from entgldb.storage.indexes.keeping import Indexes
from entgldb.storage.log import arrivals, members, prune, requests
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked, check_writes
from entgldb.storage.log.read import PAUSES, PINNED, LogQueries
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.writes import Writing
from entgldb.storage.repair import beyond, forks, resetting, salvaged
from entgldb.storage.repair.applying import Applying
from entgldb.storage.repair.incarnations import Incarnations
from entgldb.storage.repair.installing import Installing
from entgldb.storage.repair.mending import Mender
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.rules.results import Installed, Lasted, Outcome

_TIDY_MS: Final = 60_000
_WAL_BYTES_MAX: Final = 16 * 1024 * 1024


class Store(LogQueries):
    """A reader of the log that writes, too, by its parts.

    One per file; all writing happens inside ``group``.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, attest: Attest = no_attestation
    ) -> None:
        super().__init__(connection)
        self.path = path
        self.transaction = Transaction(connection, self._undone)
        self._indexes = Indexes(connection)
        self.writing = Writing(self.transaction)
        self.applying = Applying(self.transaction)
        self._salvaging = salvaged.Salvaging(self.transaction)
        self.incarnations = Incarnations(self.transaction, self.applying, path, attest)
        self.trail = Trail(connection, node_of(self.origin))
        self._tidied_ms = self.state.lived_ms
        self._tidied_to = 0
        self._wal = WalWatch(path)
        self.reborn: Why | None = None
        """Why the file got a new incarnation when it was opened, if it did."""
        self.unchecked = False
        """Whether the machine stopped while the file was open, and it was too large to be looked over."""

    @classmethod
    def open(
        cls,
        directory: str | Path,
        node_id: str,
        now_ms: int,
        attest: Attest = no_attestation,
        *,
        any_thread: bool = False,
        statements: int = database.STATEMENTS,
    ) -> Store:
        """Create or open ``entgldb.db`` in ``directory``. ``attest``: the word of the cluster for a key.

        ``any_thread``: any may use it, one at a time. ``statements``: so many are kept prepared.

        Raises ConfigError (newer format, another node's file), CorruptError, or EntglError.
        """
        check_node_id(node_id)
        connection = database.open_file(directory, any_thread=any_thread, statements=statements)
        with translating(directory), closed_on_fault(connection):
            Identity.ensure(connection, node_id)
            why = fingerprint.examine(connection, Path(directory))
            unchecked = database.is_unchecked(connection, Path(directory))
            database.mark_running(connection)
            store = cls(connection, Path(directory) / database.FILE, attest)
            store.unchecked = unchecked
            if why is not None:
                store.begin_anew(b"", why, now_ms)
            store.incarnations.attest()
            fingerprint.renew(connection, Path(directory))
            return store

    @classmethod
    def memory(cls, node_id: str, random_bytes: bytes, now_ms: int, attest: Attest = no_attestation) -> Store:
        """A store without a file, for the simulation: all its randomness is ``random_bytes``."""
        connection = database.open_memory()
        seed = sha256(random_bytes).digest()
        Identity.create(connection, node_id, seed, sha256(seed).digest()[:16].hex())
        store = cls(connection, None, attest)
        store.incarnations.attest()
        return store

    @classmethod
    def reopen(cls, store: Store, now_ms: int) -> Store:
        """A restart within one process: uncommitted writes are lost, and all memory too."""
        if store.connection.in_transaction:
            store.connection.execute("ROLLBACK")
        return cls(store.connection, store.path, store.incarnations.attestation)

    @property
    def state(self) -> State:
        """The state of the file that is kept in memory."""
        return self.transaction.state

    def group(self, clock: Callable[[], float] | None = None) -> AbstractContextManager[Lasted]:
        """One transaction; see ``Transaction.group``."""
        return self.transaction.group(clock)

    def savepoint(self, *, lazily: bool = False) -> AbstractContextManager[None]:
        """Inside a group: undone alone when it raises; see ``Transaction.savepoint``."""
        return self.transaction.savepoint(lazily=lazily)

    def look_up(self, places: Sequence[Place]) -> None:
        """Have the versions at hand that writes to these places will meet."""
        self.writing.batch().look_up(places)

    @property
    def origin(self) -> Origin:
        return self.state.own

    def vector(self) -> Vector:
        return self.state.vector()

    def _heads(self) -> dict[int, tuple[Origin, int, bytes]]:
        return {one.number: (name, *one.head[:2]) for name, one in self.state.origins.items()}

    def held(self) -> dict[Origin, int]:
        return {origin: head.seq for origin, head in self.state.held.items()}

    def last_lsn(self) -> int:
        return self.state.lsn

    def live(self, seconds: float, shown_ms: int = 0, believed_ms: int = 0) -> None:
        """Let this file grow older: ``seconds`` of the monotonic clock have passed since some beginning.

        ``shown_ms``: the time of the wall clock, where it is not known to be wrong; ``believed_ms``: the same
        without a leap that has not lasted yet. The next group keeps all.
        """
        self.transaction.age.live(seconds, shown_ms, believed_ms)

    def answered(self, request: RequestId, writes: Sequence[Write] = ()) -> requests.Answer | None:
        """The answer this request id already had. Raises EntglError unknown-outcome if too old to know,
        InvalidError where it was not one to ``writes``."""
        return requests.answered(self.connection, self.state, request, writes)

    def write(
        self,
        request: RequestId,
        writes: Sequence[Write],
        now_ms: int,
        *,
        system: bool = False,
        whole: bool = False,
    ) -> requests.Answer:
        """Write as this node, remember the answer; the versions and the last lsn (0: nothing changed).

        ``whole``: also what merges is written as it stands, all fields anew.

        Raises InvalidError, TooLargeError or NotAllowedError; nothing is written then.
        """
        batch = self.writing.batch()
        checked = check_writes(writes, self.state.collections, system=system, whole=whole)
        answer = self._commit(request, batch, checked, now_ms)
        for collection, key in (write.place for write in checked if system):
            if collection == EXPELLED:
                self.state.expel(self.connection, key)
        return answer

    def resolve(
        self, request: RequestId, place: Place, version: Version, take: str, body: bytes | None, now_ms: int
    ) -> requests.Answer:
        """Settle a conflict by a write that names it. ``take``: ``loser``, ``winner``, or empty for ``body``.

        Raises NotFoundError, InvalidError, TooLargeError.
        """
        batch = self.writing.batch()
        return self._commit(request, batch, [resolving(batch, place, version, take, body)], now_ms)

    def undelete(self, request: RequestId, collection: str, key: str, now_ms: int) -> requests.Answer:
        """Write the newest live version of a deleted document. Raises NotFoundError, already-exists."""
        batch = self.writing.batch()
        return self._commit(request, batch, [undeleting(batch, collection, key)], now_ms)

    def _commit(
        self, request: RequestId, batch: Batch, checked: list[Checked], now_ms: int
    ) -> requests.Answer:
        unique = self._indexes.unique
        places = unique.watched(write.place for write in checked)
        if not places:
            return self.writing.commit(request, batch, checked, now_ms)
        # what is compared has to stand in the tables, before and after
        self.transaction.secure()
        batch.flush()
        with unique.guarded(places):
            answer = self.writing.commit(request, batch, checked, now_ms)
            batch.flush()
        return answer

    def begin_anew(self, entropy: bytes, why: Why, now_ms: int) -> None:
        """The file was found to be a copy, or older than it had been: write as somebody new."""
        with self.group():
            made = self.incarnations.reincarnate(entropy, why, now_ms)
            self.trail.note(Act(Event.INCARNATION, made, why.value), now_ms)
        self.reborn = why

    @property
    def disowned(self) -> bool:
        """Whether others have continued our own log: ``write`` needs a new incarnation first."""
        return self.state.disowned

    def reissue_salvaged(self, now_ms: int) -> int:
        """One bounded step of writing again what a damaged file had and no peer has, once a peer has given
        what it has; how many keys: none while that is still looked for. ``salvages`` tells whether there is
        more to do."""
        self.transaction.need_group()
        return self._salvaging.step(now_ms)

    def salvages(self) -> bool:
        """Whether writes of a damaged file wait to be written again."""
        return self._salvaging.waits()

    def pin_cluster(self, cluster: str, client_id: str) -> None:
        """From now on this cloud node serves ``cluster``, unless it serves one already."""
        self.transaction.need_group()
        value = json.dumps((cluster, client_id))
        self.connection.execute("INSERT OR IGNORE INTO _entgldb_meta VALUES (?, ?)", (PINNED, value))

    def attest_anew(self, renewed: Callable[[Author], bytes | None]) -> None:
        """Have the authors of all logs attested by another key; see ``authors.attest_anew``."""
        self.transaction.need_group()
        authors.attest_anew(self.connection, renewed)

    def trust(self, cluster: str, ca_key: bytes, successors: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Believe the CAs of a cluster that this cloud node serves; see ``authors.trust``."""
        self.transaction.need_group()
        authors.trust(self.connection, cluster, ca_key, successors)

    def unpin_cluster(self) -> None:
        """Serve no cluster until the next one is pinned."""
        self.transaction.need_group()
        self.connection.execute("DELETE FROM _entgldb_meta WHERE name = ?", (PINNED,))
        authors.trust_nobody(self.connection)

    def keep_pauses(self, pauses: Mapping[str, Json]) -> None:
        """Remember, over restarts, which links an operator has paused."""
        self.transaction.need_group()
        self.connection.execute(
            "INSERT OR REPLACE INTO _entgldb_meta VALUES (?, ?)", (PAUSES, json.dumps(pauses))
        )

    def forget_cluster(self, cluster: str) -> int:
        """Forget the last words of a cluster's nodes; how many there were."""
        self.transaction.need_group()
        return self.connection.execute("DELETE FROM _entgldb_members WHERE cluster = ?", (cluster,)).rowcount

    def apply(self, entries: Sequence[Entry], now_ms: int, *, cloud: bool = False, peer: str = "") -> Outcome:
        """Take foreign entries in this order, each after its link in the chain was checked.

        ``peer``: the node that sent them.
        """
        return self.applying.apply(entries, now_ms, cloud=cloud, peer=peer)

    def keep_authors(self, named: Sequence[Author]) -> None:
        """Remember whose keys the logs that are known here are signed with; the attestations are checked."""
        authors.remember(self.connection, named, checked=True)

    def note_arrival(self, first_lsn: int, peer: str, now_ms: int) -> None:
        """Remember who sent the rows from ``first_lsn`` on."""
        arrivals.note_arrival(self.connection, first_lsn, self.state.lsn, peer, now_ms)

    def release_held(self, now_ms: int, *, accepted: Origin = "") -> Outcome:
        """Apply held entries that time has caught up with; what moved. Now and then tidies up, too.

        Of the origin ``accepted`` up to GROUP_ENTRIES_MAX entries, whatever its clock says.
        """
        outcome = self.applying.release(now_ms, accepted)
        self._wal.look(now_ms)
        self.applying.strangers.look(len(self.state.origins), now_ms)
        self.applying.cut_ended()
        if self.state.lived_ms - self._tidied_ms > _TIDY_MS:
            self._tidied_ms = self.state.lived_ms
            requests.forget_old(self.connection, self.state)
            arrivals.tidy(self.connection)
            self._tidied_to = Batch(self.connection, self.state).tidy(self._tidied_to)
        return outcome

    def next_expiry(self) -> int:
        """Nothing that is shown expires before, in milliseconds since 1970; 0: nothing expires."""
        return self.state.soonest_ms

    def expire(self, now_ms: int) -> int:
        """One bounded step of hiding what has expired; see ``storage.documents.expiring``."""
        return expiring.expire(self.transaction, now_ms)

    def reset_clock(
        self, request: RequestId, entropy: bytes, now_ms: int, *, ends: bool = True
    ) -> tuple[Origin, int, int]:
        """Stamp anew, as a new writer, what a clock far ahead has stamped and nobody else has.

        ``ends``: others hear of it where this node ends its log. Gives who the node writes as now, how many
        entries that made, and how many are held now. Raises InvalidError.
        """
        self.transaction.need_group()
        self.applying.cut_ended()
        return resetting.reset_clock(
            self.transaction, self.incarnations, self.writing, request, entropy, now_ms, ends=ends
        )

    def install_step(
        self, staged: str, entropy: bytes, now_ms: int, *, cloud: bool, peer: str = "", ends: bool = True
    ) -> Installed | None:
        """One step of merging a staged snapshot; see ``Installing.step``."""
        return self._installing().step(staged, entropy, now_ms, cloud=cloud, peer=peer, ends=ends)

    def tidy_merge(self) -> bool:
        """One step of removing what a merge has left behind; whether there is more."""
        return self._installing().tidy()

    def _installing(self) -> Installing:
        return Installing(self.transaction, self.incarnations, self.applying.strangers, self.group)

    def repair(
        self, copies: Sequence[Copy], absent: Sequence[Place], vector: Vector, *, write: bool
    ) -> list[str]:
        """Compare rows with a peer's and replace those that are wrong by rule; see ``Mender.mend``."""
        self.transaction.need_group()
        mender = Mender(self.connection, self.state)
        return [decision.value for decision in mender.mend(copies, absent, vector, write=write)]

    @property
    def indexes(self) -> Indexes:
        """To be changed within a group."""
        self.transaction.need_group()
        return self._indexes

    def tends_indexes(self) -> bool:
        """Whether there is an index that is not built, or that every node has."""
        return self._indexes.are_tended()

    def _undone(self) -> None:
        self._names.clear()
        self._indexes.unique.forget()

    def remember_peer(self, node_id: str, address: str, now_ms: int) -> None:
        """Note where a LAN peer was reached."""
        self.connection.execute(
            "INSERT OR REPLACE INTO _entgldb_peers VALUES (?, ?, ?)", (node_id, address, now_ms)
        )

    def public_key(self) -> bytes:
        """The Ed25519 public key of this incarnation."""
        key = self._meta("public_key")
        assert isinstance(key, bytes)  # written with the origin
        return key

    def remember_members(self, rows: Sequence[Member], now_ms: int, *, cloud: bool) -> None:
        """Keep the last words of members that are later than those kept."""
        self.transaction.need_group()
        members.remember_members(self.connection, rows, now_ms, self.state.lived_ms, cloud=cloud)

    def known_ms(self, now_ms: int) -> int:
        """The latest time that this node can believe in: see ``rules.clock.known_ms``."""
        return members.known_ms(self.connection, self.state, now_ms)

    def high_mark_ms(self) -> int:
        return ms_of(self.state.clock)

    def prune(self, order: Prune) -> Pruned:
        """One bounded step of pruning the log; see ``storage.prune``."""
        self.transaction.need_group()
        return prune.prune(self.connection, self.state, order)

    def collect(self, frontier: Mapping[Origin, int], after_lsn: int) -> Collected:
        """One bounded step of collecting tombstones; see ``storage.prune``."""
        self.transaction.need_group()
        return prune.collect(self.connection, self.state, frontier, after_lsn)

    def status(self) -> dict[str, Json]:
        """documents, oplog_entries, conflicts, held, unfit, quarantined, wal_bytes."""
        held = self.connection.execute("SELECT count(*) FROM _entgldb_held").fetchone()[0]
        forked = sorted(o for o, known in self.state.origins.items() if known.head.forked)
        return {
            "documents": self.state.documents,
            "oplog_entries": self.state.entries,
            "oplog_bytes": self.state.log_bytes,
            "pruned_lsn": self.state.pruned_lsn,
            "collected_lsn": self.state.collected_lsn,
            "conflicts": self.state.conflicts,
            "held": held,
            "unfit": self.state.unfit,
            "quarantined": len(forked),
            "quarantined_origins": forked,
            "alarms": forks.alarms(self.connection)
            + beyond.alarms(self.connection, self.state)
            + self.applying.strangers.alarms(self.state.origins)
            + self._wal.alarms(),
            "origins": len(self.state.origins),
            "salvaged": salvaged.waiting(self.connection),
            "incarnations": Identity.history(self.connection),
            "indexes": self._indexes.status(),
            "wal_bytes": self._wal.bytes(),
            "answers_kept_ms": requests.kept_ms(self.connection, self.state),
            "audit": self.trail.head(),
        }

    def checkpoint(self) -> None:
        """Keep the WAL small; called when idle, never waits for readers."""
        if self.path is not None and self._wal.bytes():
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self._wal.bytes() > _WAL_BYTES_MAX:
                self._truncate()
            fingerprint.note_progress(self.connection, self.path.parent)

    def rest(self) -> None:
        """Give back the memory that writing has taken; outside of any group."""
        if self.path is not None:
            database.rest(self.connection)

    def compact_step(self) -> tuple[int, int, bool]:
        """Give some free pages back to the disk, outside of any group. Raises EntglError.

        The bytes of the file before and after, and whether there are more of them.
        """
        before = compacting.file_bytes(self.connection)
        with translating("compacting failed"):
            more = compacting.step(self.connection)
            if not more and self.path is not None:
                self._truncate()
        return before, compacting.file_bytes(self.connection), more

    def close(self) -> None:
        """Stop in good order: the next start needs no integrity check."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if self.path is not None:
                with self.group():
                    # the next start, and whoever reads meanwhile, needs no tail of the log
                    self.state.loose = True
                    database.mark_stopped(self.connection)
                fingerprint.note_progress(self.connection, self.path.parent)
                # readers in other processes keep SQLite from doing this at the close of the last connection
                self._truncate()
        finally:
            self.connection.close()

    def _truncate(self) -> None:
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {database.BUSY_MS}")
