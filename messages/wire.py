"""Messages between nodes. Tags 1-39. ONLY APPEND to this list, and only fields with defaults."""

from __future__ import annotations

from typing import Final

from entgldb.messages.model import Author, Entry, Origin, Vector
from entgldb.messages.schema import (
    Channel,
    Count,
    Message,
    Millis,
    Port,
    Record,
    Small,
    Stamp,
    message,
    record,
)

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
SHARED: Final = "shared"
"""The feature of a cloud node that mixes the documents of several clusters: it answers for their writers."""
PROBE: Final = "probe"
"""The only feature of a dialler that came to hear a Hello and goes again: it gets no session."""
FEATURES: Final[tuple[str, ...]] = ()
"""The features of every node of this release beyond protocol 1, for its ``Hello``. A new message that a peer
must know to be served needs a new word here, and a node sends it only to peers that named the word. Any other
new message may go to all: an older peer counts it as ``unknown-message`` and ignores it."""


@record
class Rank(Record):
    """How fit a node is to be gateway; see ``better``."""

    resolvable: Small
    """Enabled cloud peers whose secret the node can resolve."""
    priority: Small
    node_id: str
    reach: Small = 0
    """Cloud peers that the node has reached lately."""

    def better(self, other: Rank) -> bool:
        """More peers reached, then more resolvable, then higher priority, then the smaller node id."""
        mine = (self.reach, self.resolvable, self.priority)
        theirs = (other.reach, other.resolvable, other.priority)
        return mine > theirs or (mine == theirs and self.node_id < other.node_id)


@record
class Copy(Record):
    """One row as a node shows it: a document, or a tombstone (``body`` None)."""

    collection: str
    key: str
    origin: Origin
    seq: Count
    hlc: Stamp
    body: bytes | None
    sha256: bytes
    """The digest stored beside the body; empty for a tombstone."""
    stamps: bytes | None = None
    """Versions of fields, in collections that merge."""
    expires: Count = 0
    """The moment from which on nobody shows the version, in milliseconds since 1970; 0: none.

    A row with a moment and no body has expired.
    """

    @property
    def hidden(self) -> bool:
        """Whether the sender shows nothing because the version has expired."""
        return self.body is None and self.expires > 0


@record
class Claim(Record):
    """The gateway as far as the sender knows. The gateway alone counts ``beat`` up."""

    epoch: Count
    rank: Rank
    beat: Count
    connected: tuple[str, ...] = ()
    """Cloud peers the gateway is linked to, for whoever asks another node; nothing is decided by it."""
    troubles: tuple[tuple[str, str], ...] = ()
    """Cloud peers whose link is down, or will be, and why (a word of ``Reason``); told for the same end."""

    @property
    def gateway(self) -> str:
        return self.rank.node_id


@record
class Member(Record):
    """A node's report on itself; of two rows of one node the greater ``counter`` is the later.

    It travels from node to node in heartbeats and is never an operation: an acknowledged vector that is
    itself an operation would move the vectors that it reports, and never come to rest.
    """

    origin: Origin
    counter: Count
    """Counted up by that node alone."""
    seen_ms: Millis
    """Its wall clock when it said so."""
    vector: dict[str, Count]
    """Origin -> newest contiguous seq that is committed there: it acknowledges all of it."""
    shown_ms: Millis = 0
    """The latest time that its own clock has shown, or that an operator let in there; 0: unknown."""
    cluster: str = ""
    """The cluster it is of; of a cloud node empty."""
    unsettled: dict[str, Count] | None = None
    """Of ``settled``, what is less than ``vector``: origin -> seq. None: it says nothing yet."""

    @property
    def settled(self) -> dict[str, Count]:
        """Origin -> seq: all members that count have it, as this one says."""
        less = self.unsettled
        return {} if less is None else {name: less.get(name, seq) for name, seq in self.vector.items()}


@message(1, Channel.PEER)
class Hello(Message):
    """First frame of a link, from both sides (the dialler first)."""

    protocol_min: Count
    protocol_max: Count
    node_id: str
    origin: Origin
    cluster: str
    """``cluster`` of the certificate; of a cloud node empty."""
    features: tuple[str, ...]
    clock_ms: Millis
    role: str
    """The role of the sender: ``lan`` or ``cloud``."""
    token: str = ""
    """Bearer token, gateway to cloud only."""
    epoch: Count = 0
    """The gateway's epoch, gateway to cloud only."""
    listen_port: Port = 0
    """The port on which the sender accepts links (0: none)."""
    life: Stamp = 0
    """Drawn at the start of the sender's process: two that differ are two processes (0: not told)."""
    beat_ms: Count = 1000
    """How far apart the sender's heartbeats are; a link on which nothing comes for three of the slower side's
    is down."""
    ca_key: bytes = b""
    """The public key of the cluster's first CA: ``cluster`` is made from it. Between LAN nodes only where
    others followed it."""
    announced: tuple[str, ...] = ()
    """The addresses at which others reach the sender, between LAN nodes: hints, where the address that the
    link shows and ``listen_port`` are not it."""
    successors: tuple[tuple[bytes, bytes], ...] = ()
    """The public keys of the CAs that followed that of ``ca_key``, each with the signature of the one before
    it."""


@message(2, Channel.PEER)
class Vectors(Message):
    """After Hello: the vector of the sender. The peer sends the missing entries, in round 0."""

    vector: Vector
    held: dict[str, Count]
    """Origin -> seq received and held back by the clock bound: not to be sent again."""


@message(3, Channel.PEER)
class Entries(Message):
    """A batch in the sender's own commit order. ``batch`` counts from 0 in each round."""

    round: Count
    batch: Count
    entries: tuple[Entry, ...]
    recorded: tuple[Small, ...] = ()
    """Indexes of system entries the sender itself has only recorded: not to be applied either."""
    authors: tuple[Author, ...] = ()
    """Of each origin whose entries go out for the first time in this round."""


@message(4, Channel.PEER)
class Ack(Message):
    """All batches of ``round`` up to ``batch`` are committed here (or held, staged, known)."""

    round: Count
    batch: Count


@message(5, Channel.PEER)
class GapRequest(Message):
    """Something is missing or out of order: begin ``round`` from this vector."""

    round: Count
    vector: Vector
    held: dict[str, Count]


@message(6, Channel.PEER)
class VectorChange(Message):
    """Heads just added to the sender's vector, so that nobody relays their entries to it."""

    changes: Vector


@message(7, Channel.PEER)
class Heartbeat(Message):
    """Every second; carries what lets every lost push be noticed."""

    clock_ms: Millis
    round: Count
    sent: Count
    """Batches sent in ``round``: the receiver sees that the last one was lost."""
    claim: Claim | None = None
    vector: Vector | None = None
    """Rides along at the end of a sync interval in which it has changed."""
    held: dict[str, Count] | None = None
    members: tuple[Member, ...] = ()
    """Rows that this session has not been told yet, its own sender's among them."""
    acked: Count = 0
    """Batches of ``round`` that the sender knows to be acknowledged: the receiver sees a lost Ack."""
    told: Count = 0
    """At the end of a sync interval: the number on this link of ``vector`` and ``held``, or, where these have
    not changed, of those that were told last. ``Vectors`` is number 1."""
    again: bool = False
    """The sender lacks the vector of a number that it heard: it is to be told once more."""
    near: tuple[str, ...] | None = None
    """Node ids that the sender is linked with, beside its own row and when they change: it is told nothing
    of them by others."""


@message(8, Channel.PEER)
class Credential(Message):
    """A renewed bearer token on an open cloud link."""

    token: str
    epoch: Count = 0


@message(9, Channel.PEER)
class Bye(Message):
    """Why the sender closes the link; ``reason`` is a word of ``Reason``, known or newer."""

    reason: str
    text: str = ""


@message(10, Channel.PEER)
class Election(Message):
    """Bully: the sender, of ``rank``, wants to lead."""

    epoch: Count
    rank: Rank


@message(11, Channel.PEER)
class Alive(Message):
    """Bully: a better-ranked node is here and takes over the election."""

    epoch: Count


@message(12, Channel.PEER)
class Coordinator(Message):
    """Bully: the sender leads."""

    claim: Claim


@message(16, Channel.PEER)
class Standing(Message):
    """How fit the sender is to lead, for whoever asks why it does not; nothing is decided by it."""

    rank: Rank
    hindrance: str = ""
    """Why it does not stand for election at all, a word of ``Reason``; empty: it does."""


@message(13, Channel.PEER)
class Want(Message):
    """System entries that came by a cloud link without being applied; LAN peers supply them.

    Entry 0 asks for a snapshot, for what that of a cloud covers of them.
    """

    ids: tuple[tuple[str, Count], ...]


@message(14, Channel.PEER)
class Supply(Message):
    """Answer to Want: whole entries the sender has applied."""

    entries: tuple[Entry, ...]
    authors: tuple[Author, ...] = ()


@message(15, Channel.PEER)
class PeersKnown(Message):
    """The addresses at which the sender reaches other nodes of the cluster: hints, node id -> address; TLS
    decides."""

    peers: dict[str, str]


@message(33, Channel.PEER)
class CasFollowed(Message):
    """Between LAN nodes: the sender holds another cluster key than when it said Hello. As ``Hello`` has them,
    the public key of the first CA, and those that followed it, each with the signature of the one before."""

    ca_key: bytes
    successors: tuple[tuple[bytes, bytes], ...]


@message(24, Channel.PEER)
class SnapshotOffer(Message):
    """The log does not reach back to what you lack, or would take longer: here is a state to take instead."""

    id: str
    """Made of the digests of all its chunks: equal ids are equal bytes, whoever sends them."""
    vector: Vector
    """The entries that the snapshot covers."""
    chunks: Count
    rows: Count
    bytes: Count


@message(25, Channel.PEER)
class SnapshotWant(Message):
    """Send this chunk; several may be asked for at a time, from 0 on."""

    id: str
    chunk: Count


@message(26, Channel.PEER)
class SnapshotChunk(Message):
    """Answer to SnapshotWant. ``sha256`` is that of ``payload``."""

    id: str
    chunk: Count
    payload: bytes
    sha256: bytes


@message(27, Channel.PEER)
class SnapshotEnd(Message):
    """The receiver does not want it, or the sender has it no more; ``reason`` is a word of ``Reason``."""

    id: str
    reason: str


@message(28, Channel.PEER)
class Ranges(Message):
    """Verification: fingerprints of ranges of keys.

    A question holds the 64 of level 1. Its answer names those that differ (``within``, a byte each) and holds
    the 64 of level 2 for each of them, 20 bytes each: count and sum.
    """

    run: Count
    answer: bool
    sums: bytes
    within: bytes = b""
    fresh: bool = False
    """Walk the documents again rather than use what an earlier walk found."""
    vector: Vector | None = None
    """In an answer: the entries that its sender has taken in."""


@message(29, Channel.PEER)
class Items(Message):
    """Verification: the items of ranges that differ, 8 bytes of place and 8 of value each, by place."""

    run: Count
    buckets: tuple[Small, ...]
    items: bytes
    after: bytes = b""
    """Places up to it are dealt with: the answer begins behind it."""
    vector: Vector | None = None
    """The entries that the sender has taken in: what the log still brings it need not be shown."""
    waits: bytes = b""
    """Places of which the log still brings the receiver an entry: its rows of them need not be shown."""


@message(30, Channel.PEER)
class Copies(Message):
    """Verification: the rows of places that differ; the other side answers with its own of them."""

    run: Count
    answer: bool
    vector: Vector
    """The entries that the sender had taken in before it read the rows."""
    copies: tuple[Copy, ...]
    unknown: bytes = b""
    """Places, 8 bytes each, where the sender has no row."""
    through: bytes = b""
    """More differ behind this place; empty: none."""
    repair: bool = False
    """Rows that are wrong by rule are to be replaced."""
    waits: bytes = b""
    """Places about which nobody can decide now: the sender has an entry in quarantine, or still to be
    supplied, or one that the log still brings the asker."""


@message(32, Channel.PEER)
class CopyPiece(Message):
    """Verification: a piece of a row too large for a frame; the ``Copies`` that follows stands for it."""

    run: Count
    answer: bool
    payload: bytes


@message(31, Channel.PEER)
class Part(Message):
    """A piece of one frame too large for the line: small frames go between two of them."""

    frame: Count
    """Counted up on each link; the parts of a frame come in order, and of one frame at a time."""
    offset: Count
    """Bytes of it that came before."""
    last: bool
    payload: bytes
    """A part of the encoded frame; all parts together are the frame."""
