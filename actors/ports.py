"""The ports of behaviours: storage by its own classes, TLS and HTTP behind small protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from entgldb.actors.line import Flow
    from entgldb.messages.model import Author
    from entgldb.messages.remote_peers import OAuth2
    from entgldb.messages.schema import Message
    from entgldb.messages.secret import Secret
    from entgldb.messages.tenants import Tenant
    from entgldb.storage import store
    from entgldb.storage.log import read
    from entgldb.storage.repair import copies

    Fingerprints = copies.Fingerprints
    LogReader = read.LogQueries
    Store = store.Store
else:
    # behaviours name these in annotations alone, and so load no SQLite
    Fingerprints = LogReader = Store = object


class Witness(Protocol):
    """Knows what keys have signed."""

    def signed(self, public_key: bytes, statement: bytes, signature: bytes) -> bool:
        """Whether the holder of the key has signed the statement."""

    def attested(self, author: Author) -> bool:
        """Whether the CA of a cluster of ours says that the node of an origin has its key."""

    def believed(self) -> frozenset[bytes]:
        """The public keys of the CAs whose word counts now."""

    def hear(
        self, cluster: str, ca_key: bytes, successors: Sequence[tuple[bytes, bytes]], *, member: bool = False
    ) -> None:
        """A peer tells of the CAs of its cluster: each has signed the next one. ``member``: it has shown that
        the key which counts here was made for it."""


class ClusterCa(Protocol):
    """The CA of our cluster."""

    @property
    def public_key(self) -> bytes:
        """Of the key that counts."""

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

    def unstage(self) -> None:
        """Remove all staged chunks; none is open."""


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

    def resealed(self, node_id: str, oauth2: OAuth2) -> OAuth2 | None:
        """With both secrets sealed under the key that counts; None where they are so, not sealed, or do not
        open."""

    @property
    def ring(self) -> KeyRing | None:
        """The keys under which secrets are sealed; None where this node is in no cluster."""


class KeyRing(Protocol):
    """The keys of the cluster that this node holds, and the box in which it is given a new one.

    A key is named by its id, the public key of its CA in hex.
    """

    @property
    def box(self) -> str:
        """The public half of the box, in hex: others seal to it."""

    def proof(self, node_id: str, before: str) -> str:
        """This node's own key and its word for the box; ``before`` where that is good still."""

    def proves(self, proof: str, box: str, node_id: str, pinned: str) -> bool:
        """Whether a node's own key, the one that is pinned for it, gave its word for a box."""

    def held(self) -> tuple[str, ...]:
        """The ids of the keys that are held; the one that counts here is the first."""

    def is_first(self) -> bool:
        """Whether the key that counts here is the first one of the cluster, which made its name."""

    def new(self) -> tuple[str, Secret]:
        """A new key, which nobody holds yet, and its id."""

    def seal(self, key: Secret, box: str, node_id: str) -> str:
        """A key that only the node with this box can open. Raises ValueError for what is no box."""

    def open(self, sealed: str, key_id: str, node_id: str) -> Secret | None:
        """The key with this id that was sealed to this node; None where it was not."""

    def of_held(self, key_id: str) -> Secret | None:
        """A key that is held; None where it is not."""

    def take(self, key: Secret) -> None:
        """Let a key count from now on. Raises OSError."""

    def drop_older(self) -> None:
        """Hold the key that counts and no other. Raises OSError."""

    def vouch(self, key_id: str) -> str:
        """The signature of the CA of the key that counts, in hex, for the CA of one that is to follow it."""

    def attested(self, author: Author) -> Author:
        """An author by the word of the newest key that is held, and of the same kind."""

    def renewal(self, key: Secret) -> Callable[[Author], bytes | None]:
        """From an author to its attestation by a key that follows those that are held: None where it has
        that, or none of theirs."""


class TokenChecker(Protocol):
    """Cloud role: verifies bearer tokens. The outcome comes back as TokenChecked."""

    def check(self, link: int, ticket: int, token: str) -> None: ...


class Prober(Protocol):
    """Tries a cloud peer step by step for TestPeer. The outcome comes back as ProbeDone."""

    def probe(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> None: ...


class Catalogue(Protocol):
    """The tenants that a cloud node knows. Written inside a group of its store. All may raise EntglError."""

    def get(self, name: str) -> Tenant | None:
        """The row of a tenant."""

    def page(self, after: str) -> list[Tenant]:
        """Rows behind a name, by name; fewer than PAGE_ROWS_MAX where no more follow."""

    def states(self) -> dict[str, int]:
        """State -> rows that have it."""

    def deleting(self) -> list[str]:
        """Tenants whose files are to be removed."""

    def put(self, row: Tenant, before: Tenant | None) -> None:
        """``before``: the row as it was read. Raises EntglError where it is another one by now."""

    def forget_oldest(self) -> bool:
        """Take out the row of the tenant that was deleted first; False where there is none."""


class TenantFiles(Protocol):
    """The files of the tenants of a cloud node."""

    def size(self, tenant: str) -> int:
        """Their bytes; 0 where there are none."""

    def remove(self, tenant: str) -> bool:
        """One bounded step of removing them; whether nothing is left. Raises OSError."""
