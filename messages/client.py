"""Requests of clients and administrators to a node, and its answers. Tags 40-79.

The same messages travel by the Unix socket of a node and by Thespian's ask and tell.
"""

from __future__ import annotations

from typing import Final

from entgldb.messages.model import Version
from entgldb.messages.schema import Channel, Count, Json, Message, Record, Small, message, record


@record
class RequestId(Record):
    """Makes a retry harmless: the answer to a known id is given again, the work is not done again."""

    client: bytes
    """16 random bytes a client draws once."""
    counter: Count
    awaited: Count = 0
    """Answers to lower counters have come, or are not waited for: they need not be remembered."""


@record
class Written(Record):
    """The version that a write made, or that stands where it changed nothing; ``seq`` 0: it met nothing."""

    origin: str
    seq: Count

    @property
    def version(self) -> Version:
        return Version(self.origin, self.seq)


@record
class Base(Record):
    """The document that a client had read and changed; where it merges, only the changes are written."""

    versions: tuple[Written, ...]
    """The document's newest version, then the versions merged into it that no other version names."""
    body: bytes
    """The document as it was read."""


@record
class FieldOperation(Record):
    """An operation on one field of a document that merges: concurrent ones come together, none replaces
    another."""

    verb: str
    """``inc`` adds to a counter, ``add`` and ``remove`` change a set."""
    path: tuple[str, ...]
    """Names from the document down to the field; what is absent is made."""
    value: bytes
    """JSON text: an integer of at most 64 bits to add, or the element, a scalar."""


@record
class Write(Record):
    """A put (``body`` is UTF-8 JSON text of an object), or without it a delete, operations or an update."""

    collection: str
    key: str
    body: bytes | None
    base: Base | None = None
    """None: the document is put whole, over whatever is there."""
    operations: tuple[FieldOperation, ...] = ()
    """In a collection that merges: done in order on the document as it stands, or on an empty one."""
    expects: Written | None = None
    """The version that the write is meant for: where the newest of the document is another, the whole commit
    is refused (``version-mismatch``). ``PRESENT``: so it is where there is no document; ``ABSENT``: where
    there is one (``already-exists``)."""
    update: bytes | None = None
    """JSON text of update operators for the document that stands, instead of a body. Where there is none, the
    write does nothing and its version has ``seq`` 0."""
    upsert: bool = False
    """Where there is none, the update makes one of an empty document."""
    where: bytes | None = None
    """JSON text of a filter and its collation (a text, or null), in an array: where the document that stands
    does not match, the write does nothing and its version has ``seq`` 0."""
    expire_after: Count | None = None
    """Milliseconds after which nobody shows what is written; 0: never. None: as the collection has it."""


ABSENT: Final = Written("", 0)
"""``Write.expects`` of a write for which there must be no document."""
PRESENT: Final = Written("*", 0)
"""``Write.expects`` of one for which there must be one, of whatever version."""


@message(40, Channel.CLIENT)
class Commit(Message):
    """Do all ``writes`` in one transaction, or none. Answered by CommitDone or Refused."""

    request: RequestId
    writes: tuple[Write, ...]
    call: str = ""
    """The name of the call that led to it, such as an ``X-Request-ID``: for lines of the log alone."""


@message(77, Channel.CLIENT)
class Piece(Message):
    """A part of a request that is larger than a frame; the pieces of one follow each other, with its number.

    Together they are what would have stood in one frame.
    """

    size: Count
    """Bytes of all pieces, at most REQUEST_BYTES_MAX."""
    data: bytes


@message(41, Channel.CLIENT)
class CommitDone(Message):
    """The writes are durable here; ``lsn`` is the last row they made (0: nothing changed)."""

    written: tuple[Written, ...]
    lsn: int


@message(42, Channel.CLIENT)
class Refused(Message):
    """An EntglError that travels."""

    code: str
    text: str
    hint: str = ""
    definite: bool = True


@message(43, Channel.CLIENT)
class Done(Message):
    """It is done; nothing more to say."""


@message(44, Channel.CLIENT)
class Report(Message):
    """An answer made of JSON, such as a status."""

    body: dict[str, Json]


@message(45, Channel.CLIENT)
class CreateIndex(Message):
    """Make an index, which is then built in steps. Idempotent. Answered by CommitDone or Refused.

    Another index of that name is refused.
    """

    collection: str
    paths: tuple[str, ...]
    """Field paths, the first first; ``-`` before one has its values fall."""
    name: str = ""
    """Empty: made of the paths."""
    unique: bool = False
    """Refuse writes of this node that repeat the values of another document."""
    where: bytes | None = None
    """JSON of a filter: only documents that match it are in the index."""
    text: bool = False
    """Index the words of the fields."""
    request: RequestId | None = None
    """Where it is given every node shall have the index: it names the write that says so."""


@message(59, Channel.CLIENT)
class DropIndex(Message):
    """Drop an index; one that every node has goes everywhere. Answered by CommitDone or Refused."""

    request: RequestId
    collection: str
    name: str


@message(68, Channel.CLIENT)
class RebuildIndex(Message):
    """Build an index of this node again from nothing. Answered by Done or Refused."""

    collection: str
    name: str


@message(46, Channel.CLIENT)
class Follow(Message):
    """From now on push Advanced on this socket whenever something was committed."""


@message(47, Channel.CLIENT)
class Advanced(Message):
    """Rows up to ``lsn`` are committed."""

    lsn: int


@message(48, Channel.CLIENT)
class Relay(Message):
    """Hand ``payload`` (an encoded admin message) to another actor and give back its answer."""

    actor: str
    payload: bytes


@message(49, Channel.CLIENT, admin=True)
class Status(Message):
    """How are you? Answered by Report."""


@message(50, Channel.CLIENT, admin=True)
class Reload(Message):
    """To ``node``: read the configuration again and apply what can change without a restart.

    Answered by Report (``changed`` and ``restart_needed``: names of settings) or Refused, and then nothing
    of it is applied.
    """


@message(51, Channel.CLIENT, admin=True)
class SyncNow(Message):
    """To ``sync``: redial and compare vectors with every peer now."""


@message(52, Channel.CLIENT, admin=True)
class Isolate(Message):
    """To ``sync``: refuse and drop all links for ``seconds`` (0 ends it). For trials."""

    seconds: float


@message(53, Channel.CLIENT, admin=True)
class StandDown(Message):
    """To ``election``: do not lead for ``seconds``."""

    seconds: float


@message(54, Channel.CLIENT, admin=True)
class WhoIs(Message):
    """To ``node``: where are the actors? Answered by Addresses, over Thespian only."""


@message(55, Channel.CLIENT, admin=True)
class TestPeer(Message):
    """To ``gateway``: try a cloud peer step by step. Answered by Report."""

    __test__ = False  # a message, not a test class

    node_id: str


@message(56, Channel.CLIENT, admin=True)
class Ping(Message):
    """Answered by Done."""


@message(57, Channel.CLIENT, admin=True)
class Stop(Message):
    """To ``node``: stop the whole node in good order. Answered by Done before it begins."""


@message(74, Channel.CLIENT)
class SettleUnfit(Message):
    """Decide about an entry in quarantine: apply it now (``retry``), or let it go.

    Answered by Done or Refused; refused, it stays where it is.
    """

    origin: str
    seq: Count
    retry: bool


@message(75, Channel.CLIENT)
class ReleaseOrigin(Message):
    """Apply now what is held of ``origin``, however far its clock is ahead; ours then follows it.

    Answered by Report (``released``: entries; ``left``: some are, ask again) or Refused.
    """

    origin: str


@message(60, Channel.CLIENT)
class PutPeer(Message):
    """Add a remote peer, or change the given fields of one (``add`` False; None leaves a field as it is).

    ``secret`` is a reference (``env:NAME``, ``file:PATH``) or the secret itself, which is sealed before
    anything is stored. ``auth_method`` is one of AUTH_METHODS. Answered by CommitDone or Refused.
    """

    request: RequestId
    add: bool
    node_id: str
    type: Small | None = None
    address: str | None = None
    authority: str | None = None
    client_id: str | None = None
    secret: str | None = None
    scopes: tuple[str, ...] | None = None
    audience: str | None = None
    ca_pem: str | None = None
    token_endpoint: str | None = None
    enabled: bool | None = None
    auth_method: str | None = None
    max_rate: Count | None = None
    """Bytes a second at most that are sent to it; 0: no limit."""


@message(61, Channel.CLIENT)
class RemovePeer(Message):
    """Remove a remote peer everywhere, for good. Answered by CommitDone or Refused."""

    request: RequestId
    node_id: str


@message(69, Channel.CLIENT, admin=True)
class Verify(Message):
    """To ``oplog``: compare documents with ``peer`` (empty: all). Answered by Report; Status tells on."""

    peer: str = ""
    repair: bool = False
    """Replace what is wrong by rule; False only lists it."""
