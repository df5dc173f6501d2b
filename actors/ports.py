"""The ports of behaviours: small protocols behind which SQLite, TLS and HTTP live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from entgldb.actors.auditing import Audits
from entgldb.actors.vouching import Vouching

if TYPE_CHECKING:
    from entgldb.actors.line import Flow
    from entgldb.messages.client import RequestId, Write, Written
    from entgldb.messages.local.members import Collected, Prune, Pruned
    from entgldb.messages.model import Author, Entry, Origin, Place, Vector, Version
    from entgldb.messages.remote_peers import OAuth2
    from entgldb.messages.schema import Json, Message
    from entgldb.messages.tenants import Tenant
    from entgldb.messages.wire import Copy, Member
    from entgldb.storage.rules.incarnations import Why
    from entgldb.storage.rules.indexing.definition import Definition
    from entgldb.storage.rules.results import Heard, Installed, Lasted, LogRow, Outcome, Walked

    Answer = tuple[tuple[Written, ...], int]


class LogReader(Vouching, Protocol):
    """Reads for sessions what one node has that another lacks. Every call is one short transaction."""

    @property
    def origin(self) -> Origin:
        """The origin under which this node writes."""

    def vector(self) -> Vector: ...

    def held(self) -> dict[Origin, int]:
        """Origin -> newest seq that is held."""

    def last_lsn(self) -> int: ...

    def first_missing(self, theirs: Mapping[Origin, int]) -> int:
        """Lowest lsn of an entry that a vector of seqs does not cover; last lsn + 1 when it covers all."""

    def disputes(self, origin: Origin, seq: int, digest: bytes) -> bool:
        """Whether our file has another entry of ``origin`` at ``seq``, or has not come so far."""

    def forked(self) -> set[Origin]:
        """Origins of which nothing more is taken."""

    def rows(self, from_lsn: int, rows_max: int) -> list[LogRow]:
        """Rows with lsn >= ``from_lsn``, in lsn order, at most ``rows_max`` and about 4 MiB."""

    def unapplied(self, rows_max: int, after: tuple[Origin, int] = ("", 0)) -> list[tuple[Origin, int]]:
        """System entries recorded from a cloud link and not supplied by a LAN peer since."""

    def entries(self, ids: Sequence[tuple[Origin, int]]) -> list[Entry]:
        """Those of the named entries that are here and applied, in lsn order."""

    def author(self, origin: Origin) -> Author | None:
        """The author of a log; None where nobody has named it yet."""

    def signed_upto(self, origin: Origin) -> int:
        """The seq of the newest entry of a log that is signed: what follows is nobody's to relay yet."""

    def size(self) -> tuple[int, int]:
        """Live documents, and rows of the log."""

    def floors(self) -> dict[Origin, int]:
        """Origin -> newest seq whose log rows are gone, for those that have any such."""


class OplogReader(LogReader, Protocol):
    """Reads besides what members, retention and the clock are judged by, from any process."""

    def pinned_cluster(self) -> tuple[str, str]:
        """The cluster that a cloud node serves and the client id that brought it; empty before the first."""

    def pauses(self) -> dict[str, Json]:
        """Kind of links -> the pause of it, as the store keeps it."""

    def authorities(self) -> dict[str, bytes]:
        """Cluster -> the public key of its CA, of the clusters that a cloud node serves."""

    def members(self) -> dict[str, Heard]:
        """Name (node id; origin in the cloud role) -> the last row of that member kept in the file."""

    def acknowledged(self) -> dict[Origin, int]:
        """The vector as far as all of it is applied, not only recorded."""

    def marks(self) -> list[tuple[int, dict[Origin, int]]]:
        """When by our clock the vector was what, the oldest first."""

    def high_mark_ms(self) -> int:
        """The hybrid clock's milliseconds: no new write is stamped before."""

    def shown_ms(self) -> int:
        """The latest time that this node's own clock has shown, as of its last commit."""

    def lived_ms(self) -> int:
        """How long a store has had this file open, as of its last commit."""

    def log_bytes(self) -> int:
        """Headers and bodies in the log."""

    def tombstones(self, after: Mapping[Origin, int], upto: Mapping[Origin, int]) -> int:
        """How many collectable tombstones have versions behind ``after`` and not behind ``upto``."""

    def known(self, collection: str, key: str) -> bool:
        """Whether a document or a tombstone is there."""

    def documents(self, collection: str) -> list[tuple[str, bytes]]:
        """All live documents of a small (system) collection, by key."""


class Fingerprints(Protocol):
    """Walks the documents for verification. Every call is one short transaction."""

    def walk(self, after: int) -> Sequence[Walked]:
        """Rows of documents and tombstones with a higher id, in its order; empty at the end."""

    def copies(self, places: Iterable[Place]) -> Iterator[Copy]:
        """The rows of those of the keys that have one, one by one; a damaged one is not shown to anybody."""

    def waiting(self) -> list[Place]:
        """Keys of which an entry is in quarantine, or still to be supplied by a LAN peer."""

    def coming(self, theirs: Vector) -> set[Place]:
        """Keys of the first entries of the log that ``theirs`` does not cover."""


class Store(OplogReader, Audits, Protocol):
    """The only writer of the file. All writing happens inside ``group``."""

    def group(self, clock: Callable[[], float] | None = None) -> AbstractContextManager[Lasted]:
        """One transaction: BEGIN IMMEDIATE ... COMMIT; ROLLBACK when it raises.

        ``clock``, in seconds: how long SQLite took over COMMIT is then known afterwards.
        """

    def savepoint(self, *, lazily: bool = False) -> AbstractContextManager[None]:
        """Inside a group: undone alone when it raises. ``lazily``: nothing is called in it but ``answered``
        and ``write``, whose rows may be written with those of the next."""

    def keep_pauses(self, pauses: Mapping[str, Json]) -> None:
        """Inside a group: remember, over restarts, which links an operator has paused."""

    def look_up(self, places: Sequence[Place]) -> None:
        """Inside a group: have the versions at hand that writes to these places will meet."""

    def live(self, seconds: float, shown_ms: int = 0) -> None:
        """Let this file grow older: ``seconds`` of the monotonic clock have passed since some beginning.

        ``shown_ms``: the time of the wall clock, where it is not known to be wrong.
        """

    def reset_clock(
        self, request: RequestId, entropy: bytes, now_ms: int, *, ends: bool = True
    ) -> tuple[Origin, int, int]:
        """Stamp anew, as a new writer, what a clock far ahead has stamped and nobody else has.

        ``ends``: others hear of it where this node ends its log. Gives who the node writes as now, how many
        entries that made, and how many are held now. Raises InvalidError.
        """

    def known_ms(self, now_ms: int) -> int:
        """The latest time that this node can believe in."""

    def answered(self, request: RequestId, writes: Sequence[Write] = ()) -> Answer | None:
        """The answer this request id already had. Raises EntglError unknown-outcome if too old to know,
        InvalidError where it was not one to ``writes``."""

    def write(
        self, request: RequestId, writes: Sequence[Write], now_ms: int, *, system: bool = False
    ) -> Answer:
        """Write as this node, remember the answer; the versions and the last lsn.

        Raises InvalidError, TooLargeError or NotAllowedError (system collections need ``system``).
        """

    def resolve(
        self, request: RequestId, place: Place, version: Version, take: str, body: bytes | None, now_ms: int
    ) -> Answer:
        """Settle a conflict by a write that names it. Raises NotFoundError, InvalidError, TooLargeError.

        ``place``: collection and key. ``take``: ``loser``, ``winner``, or empty for ``body``.
        """

    def undelete(self, request: RequestId, collection: str, key: str, now_ms: int) -> Answer:
        """Write the newest live version of a deleted document. Raises NotFoundError, already-exists."""

    def reincarnate(self, entropy: bytes, why: Why, now_ms: int) -> Origin:
        """Write under a new origin from now on; the new origin. The old log stays, as any other writer's.

        ``entropy``: 32 bytes nobody can guess.
        """

    def reissue_salvaged(self, now_ms: int) -> int:
        """Write again what a damaged file had and no peer has, once a peer has given what it has."""

    def branch(self, origin: Origin, keep: str) -> tuple[int, bytes] | None:
        """An entry (seq, hash) of the branch ``ours`` or ``theirs`` of a forked origin."""

    def heal(self, origin: Origin, seq: int, kept: bytes, entropy: Callable[[], bytes], now_ms: int) -> int:
        """Let the branch with entry ``kept`` at ``seq`` stay; how many entries of another were taken out."""

    @property
    def reborn(self) -> Why | None:
        """Why the file got a new incarnation when it was opened, if it did."""

    @property
    def unchecked(self) -> bool:
        """Whether the machine stopped while the file was open, and it was too large to be looked over."""

    @property
    def disowned(self) -> bool:
        """Whether others have continued our own log: ``write`` needs a new incarnation first."""

    def pin_cluster(self, cluster: str, client_id: str) -> None:
        """From now on this cloud node serves ``cluster``, unless it serves one already."""

    def trust(self, cluster: str, ca_key: bytes) -> None:
        """Believe the CA of a cluster that this cloud node serves; of each cluster the first one counts."""

    def unpin_cluster(self) -> None:
        """Serve no cluster until the next one is pinned."""

    def forget_cluster(self, cluster: str) -> int:
        """Forget the last words of a cluster's nodes; how many there were."""

    def apply(self, entries: Sequence[Entry], now_ms: int, *, cloud: bool = False, peer: str = "") -> Outcome:
        """Take foreign entries in this order, each after its link in the chain was checked.

        ``peer``: the node that sent them.
        """

    def keep_authors(self, named: Sequence[Author]) -> None:
        """Remember whose keys the logs that are known here are signed with."""

    def note_arrival(self, first_lsn: int, peer: str, now_ms: int) -> None:
        """Rows from ``first_lsn`` to the last came from ``peer``."""

    def supply(self, entries: Sequence[Entry], now_ms: int) -> int:
        """Apply system entries that were recorded without being applied; how many."""

    def retry_unfit(self, version: Version, now_ms: int) -> Outcome:
        """Apply an entry from quarantine. Raises NotFoundError, or why it cannot be applied still."""

    def drop_unfit(self, version: Version) -> None:
        """Take an entry out of quarantine for good; it stays in the log. Raises NotFoundError."""

    def next_expiry(self) -> int:
        """Nothing that is shown expires before, in milliseconds since 1970; 0: nothing expires."""

    def expire(self, now_ms: int) -> int:
        """One bounded step of hiding what has expired; how many documents and conflicts.

        ``now_ms``: 0 where the wall clock is known to be wrong.
        """

    def release_held(self, now_ms: int, *, accepted: Origin = "") -> Outcome:
        """Apply held entries that time has caught up with; what moved, never refused.

        Of the origin ``accepted`` up to GROUP_ENTRIES_MAX entries, whatever its clock says.
        """

    def install_step(
        self, staged: str, entropy: bytes, now_ms: int, *, cloud: bool, peer: str = "", ends: bool = True
    ) -> Installed | None:
        """One step of merging a staged snapshot, in a transaction of its own; None: there are more.

        Raises EntglError; the step has changed nothing then. ``staged``: what ``Staged.finish`` gave.
        ``entropy``: 32 bytes nobody can guess. ``peer``: the node that gave it. ``ends``: others hear of it
        where this node ends its log to write the rest again.
        """

    def tidy_merge(self) -> bool:
        """One step of removing what a merge has left, in a transaction of its own; whether it did."""

    def repair(
        self, copies: Sequence[Copy], absent: Sequence[Place], vector: Vector, *, write: bool
    ) -> list[str]:
        """Compare own rows with a peer's, and with ``write`` replace those that are wrong by rule.

        A Decision for each of ``copies``, then for each of ``absent``, keys that the peer has not got.
        ``vector`` is what the peer had taken in before it read them.
        """

    def get(self, collection: str, key: str) -> bytes | None:
        """The body of a live document."""

    def create_index(self, definition: Definition, *, everywhere: bool = False) -> None:
        """Make an index and begin to build it. Raises EntglError."""

    def drop_index(self, collection: str, name: str) -> bool:
        """Drop an index; whether it is one of those that every node has. Raises NotFoundError."""

    def rebuild_index(self, collection: str, name: str) -> None:
        """Have an index built again from nothing. Raises NotFoundError."""

    def tends_indexes(self) -> bool:
        """Whether there is an index that is not built, or that every node has."""

    def build_indexes(self, rows: int) -> bool:
        """Take one step towards the indexes that this node shall have, of so many documents; whether there
        is more to do."""

    def remember_peer(self, node_id: str, address: str, now_ms: int) -> None: ...

    def remembered_peers(self) -> dict[str, str]: ...

    def public_key(self) -> bytes:
        """The Ed25519 public key of this incarnation."""

    def remember_members(self, rows: Sequence[Member], now_ms: int, *, cloud: bool) -> None:
        """Keep the last words of members that are later than those kept; ``cloud``: our role."""

    def prune(self, order: Prune) -> Pruned:
        """One bounded step of pruning the log, within the group that runs."""

    def collect(self, frontier: Mapping[Origin, int], after_lsn: int) -> Collected:
        """One bounded step of collecting tombstones within ``frontier`` whose log rows are pruned."""

    def status(self) -> dict[str, Json]:
        """documents, oplog_entries, conflicts, held, unfit, quarantined, wal_bytes."""

    def checkpoint(self) -> None:
        """Keep the WAL small; called when idle."""

    def compact_step(self) -> tuple[int, int, bool]:
        """Give free pages back to the disk, outside of any group: bytes before, after, whether to go on."""

    def close(self) -> None: ...


class Witness(Protocol):
    """Knows what keys have signed."""

    def signed(self, public_key: bytes, statement: bytes, signature: bytes) -> bool:
        """Whether the holder of the key has signed the statement."""

    def attested(self, author: Author) -> bool:
        """Whether the CA of a cluster of ours says that the node of an origin has its key."""


class ClusterCa(Protocol):
    """The CA of our cluster."""

    public_key: bytes

    def attest(self, node_id: str, public_key: bytes, *, guest: bool = False) -> bytes:
        """The CA's word that a node writes with a key; ``guest``: a node of another cluster."""


class Disk(Protocol):
    """The disk under the file."""

    def free_bytes(self) -> int | None:
        """The bytes that an ordinary user may still write; None where they cannot be known."""


class SnapshotChunks(Protocol):
    """Reads the snapshots that lie ready, from any process."""

    def chunk(self, snapshot_id: str, number: int) -> tuple[bytes, bytes] | None:
        """A chunk and its SHA-256; None where it is not here (any more)."""


class StagedSnapshot(Protocol):
    """A snapshot that is coming in."""

    @property
    def next(self) -> int:
        """The first chunk that is not on disk yet."""

    def add_chunk(self, number: int, payload: bytes, digest: bytes) -> None:
        """The next chunk. Raises ProtocolError for what is no chunk, EntglError where it cannot be kept."""

    def finish(self, snapshot_id: str, *, whole: bool) -> str:
        """All chunks are here: what ``Store.install`` takes. Raises ProtocolError; EntglError as above."""

    def close(self) -> None:
        """Leave it on disk, to go on later."""

    def drop(self) -> None:
        """Remove it."""


class SnapshotShelf(Protocol):
    """Oplog's shelf of snapshots: those it gives away, and the one that is coming in."""

    def freeze(self) -> None:
        """Begin to write one of the present state; SnapshotWritten follows."""

    def discard(self, snapshot_id: str) -> None:
        """Remove one that was given away long enough."""

    def stage(self, snapshot_id: str) -> StagedSnapshot:
        """Begin to take one in, or go on with it; the staged chunks of any other are removed."""


class CloudTarget(NamedTuple):
    """Whom a cloud link is dialled to."""

    node_id: str
    address: str
    ca_pem: str
    cluster: str = ""
    """Ours, for a prober that says Hello by itself."""


class Links(Protocol):
    """Links that carry frames. Outcomes come back as LinkUp, LinkDown and FrameIn."""

    def dial(self, address: str) -> int:
        """Begin to dial a LAN peer with the cluster certificate; the id of the link."""

    def dial_cloud(self, target: CloudTarget) -> int:
        """Begin to dial a cloud peer with ordinary server verification; the id of the link."""

    def send(self, link: int, message: Message) -> bool:
        """Queue one message; False when the link is gone or its queue is full (it then closes)."""

    def flow(self, link: int) -> Flow:
        """The traffic of a link so far."""

    def close(self, link: int, reason: str, text: str = "") -> None:
        """Close after what was queued is written; LinkDown follows."""

    def admit(self, link: int, client_id: str) -> None:
        """Cloud role: its token, of this client, was accepted: its frames may be larger than a Hello."""

    def good_until_ms(self) -> int:
        """The end of the certificate that this side shows, in milliseconds since 1970; 0: there is none."""

    def port(self) -> int:
        """The port the listener is bound to; 0 without one."""


class TokenSource(Protocol):
    """Fetches access tokens. The outcome comes back as TokenIssued or TokenFailed."""

    def request(self, node_id: str, ticket: int, oauth2: OAuth2) -> None:
        """Begin a client-credentials request for a cloud peer, its secret already resolvable."""


class Secrets(Protocol):
    """Knows the client secrets this node can know."""

    def resolvable(self, node_id: str, oauth2: OAuth2) -> bool:
        """Whether the secret can be had here now."""

    def seal(self, node_id: str, oauth2: OAuth2, secret: str) -> str:
        """``sealed:v1:...`` for a secret in clear, or SecretError (no cluster key here)."""

    def matches(self, node_id: str, oauth2: OAuth2, secret: str) -> bool:
        """Whether ``secret``, as a user gave it, is the one stored in ``oauth2`` (sealed or reference)."""


class TokenChecker(Protocol):
    """Cloud role: verifies bearer tokens. The outcome comes back as TokenChecked."""

    def check(self, link: int, ticket: int, token: str) -> None: ...


class Prober(Protocol):
    """Tries a cloud peer step by step for TestPeer. The outcome comes back as ProbeDone."""

    def probe(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> None: ...


class Catalogue(Protocol):
    """The tenants that a cloud node knows. Writing happens inside a group of its store."""

    def get(self, name: str) -> Tenant | None: ...

    def page(self, after: str) -> list[Tenant]:
        """Rows behind a name, by name, PAGE_ROWS_MAX at most."""

    def states(self) -> dict[str, int]: ...

    def deleting(self) -> list[str]:
        """Tenants whose files are to be removed."""

    def put(self, row: Tenant) -> None: ...

    def forget_oldest(self) -> bool:
        """Take out the row of the tenant that was deleted first; False where there is none."""


class TenantFiles(Protocol):
    """The files of the tenants of a cloud node."""

    def size(self, tenant: str) -> int:
        """Their bytes; 0 where there are none."""

    def remove(self, tenant: str) -> bool:
        """One bounded step of removing them; whether nothing is left. Raises OSError."""
