"""Decisions and questions of an administrator about nodes, logs, clocks, rules of collections and conflicts;
and the audit log, which tells of them. Tags 58, 62 to 67, 70, 73, 76, 79, 189, 200, 201, 230 to 233,
236 and 237; 180 was used."""

from __future__ import annotations

from enum import StrEnum

from entgldb.messages.client import RequestId
from entgldb.messages.model import Origin
from entgldb.messages.schema import Channel, Count, Message, message


@message(65, Channel.CLIENT)
class RetireNode(Message):
    """The node ``node_id`` will not come back as it was: nothing is kept for it any more, anywhere.

    Answered by CommitDone or Refused.
    """

    request: RequestId
    node_id: str


@message(230, Channel.CLIENT)
class ExpelNode(Message):
    """``node_id`` is no member any more, for good: it gets no link, and what it writes from now on counts
    nowhere.

    Answered by CommitDone (lsn 0: it was so already) or Refused.
    """

    request: RequestId
    node_id: str


@message(232, Channel.CLIENT)
class RotateKey(Message):
    """To ``store``: make a new cluster key, and seal it to each member. Answered by CommitDone or Refused."""

    request: RequestId


@message(233, Channel.CLIENT)
class RotateSecret(Message):
    """To ``store``: a cloud peer's client has another secret; the one before it counts beside it for a time.

    ``secret`` is a reference (``env:NAME``, ``file:PATH``) or the secret itself, which is sealed before
    anything is stored. Answered by CommitDone or Refused.
    """

    request: RequestId
    node_id: str
    secret: str
    overlap_ms: Count


@message(231, Channel.CLIENT)
class AcceptKey(Message):
    """On all nodes the certificate of ``node_id`` is to have this key from now on, and no other counts.

    Answered by CommitDone (lsn 0: it was so already) or Refused.
    """

    request: RequestId
    node_id: str
    key: str
    """SHA-256 of its SubjectPublicKeyInfo, 64 hex digits."""


@message(66, Channel.CLIENT, admin=True)
class Compact(Message):
    """To ``oplog``: forget what may be forgotten, then make the file as small as it can be.

    Answered by Report (``before``, ``after``: bytes; ``seconds`` for which writers waited) or Refused.
    """


@message(67, Channel.CLIENT)
class HealOrigin(Message):
    """Keep one branch of a forked log on all nodes: ``ours`` or ``theirs``. Answered by CommitDone."""

    request: RequestId
    origin: Origin
    keep: str


@message(76, Channel.CLIENT)
class AcceptClock(Message):
    """To ``store``: go on writing although this node's clock is off against most of its peers.

    Good until it agrees again, or the store is started again. Answered by Done or Refused.
    """


@message(79, Channel.CLIENT)
class ResetClock(Message):
    """To ``store``: the clock is right again, and stamps run far ahead of it: go on as a new writer from now.

    The node writes again the entries of the old log that nobody else has. Answered by Report (``origin``,
    ``written``) or Refused.
    """

    request: RequestId


@message(200, Channel.CLIENT)
class PauseSync(Message):
    """To ``store``: this node, and no other, has no links of a kind until it is told so, or for a time.

    It survives restarts. Answered by Report (``pauses``, as in ``status``) or Refused.
    """

    what: str
    """``lan``: links to nodes of the cluster. ``cloud``: links to cloud peers; in the cloud role, to
    clients."""
    paused: bool
    """False ends it."""
    seconds: float = 0.0
    """0: until it is ended."""


@message(201, Channel.CLIENT, admin=True)
class SetLogLevel(Message):
    """To ``node``: what all its actors write into the log, until it is started again, or for a time.

    Answered by Report (``level``, ``seconds``: what is left of it, null: no end) or Refused.
    """

    level: str = ""
    """``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``; empty: as the configuration says."""
    seconds: float = 0.0
    """0: until it is changed again."""


@message(58, Channel.CLIENT)
class UnpinCluster(Message):
    """To ``store`` of a cloud node: it serves no cluster now; the next that a client brings is the one.

    Answered by Report (``cluster``, ``client_id``: which it was, empty where there was none) or Refused.
    """

    cluster: str = ""
    """Of several that it serves (``cloud.shared``), the one that will not come back: nothing is kept for its
    nodes any more."""


@message(70, Channel.CLIENT, admin=True)
class AwaitSpread(Message):
    """To ``sync``: which members have all these entries? Answered once enough have, or after ``seconds``.

    Answered by Report (``durable`` and ``missing``: names of members; ``reached``: whether they are enough)
    or Refused.
    """

    need: str = ""
    """``peers:N`` (N other members), ``cloud`` (a cloud peer), ``all`` (every member), ``nodes:a,b`` (these);
    empty: whoever has them now."""
    vector: dict[str, Count] | None = None
    """Origin -> the newest seq that is meant; None: all that this node has now."""
    seconds: float = 0.0
    """At most ``SPREAD_SECONDS_MAX``: ask again to wait for longer."""


@message(62, Channel.CLIENT)
class Resolve(Message):
    """Settle a conflict by a new write that names it, so that it is settled on every node.

    ``take``: ``loser`` writes what lost once more, ``winner`` lets the document stand, empty writes
    ``body``. Answered by CommitDone or Refused.
    """

    request: RequestId
    collection: str
    key: str
    origin: str
    """With ``seq``: the version that lost."""
    seq: Count
    take: str = ""
    body: bytes | None = None


@message(63, Channel.CLIENT)
class Undelete(Message):
    """Write the newest live version of a deleted document again. Answered by CommitDone or Refused."""

    request: RequestId
    collection: str
    key: str


@message(64, Channel.CLIENT)
class SetConflict(Message):
    """From now on writes to ``collection`` replace documents (``lww``) or merge fields (``merge``).

    Answered by CommitDone (lsn 0: it was so already) or Refused.
    """

    request: RequestId
    collection: str
    conflict: str


@message(73, Channel.CLIENT)
class SetExpiry(Message):
    """From now on what is written to ``collection`` expires after ``expire_after`` milliseconds; 0: never.

    Answered by CommitDone (lsn 0: it was so already) or Refused.
    """

    request: RequestId
    collection: str
    expire_after: Count


class Event(StrEnum):
    """The closed set of what the audit log tells of. Append only."""

    PEER = "peer"
    """A remote peer was added, changed or removed."""
    RULE = "rule"
    """A rule of a collection, or an index, was changed."""
    RECEIVED = "received"
    """Another node's change to a system collection has come."""
    INVITED = "invited"
    JOINED = "joined"
    MEMBER = "member"
    """A member was retired, expelled, or is known by another key."""
    KEY = "key"
    """A key or secret was rotated."""
    HANDSHAKE = "handshake"
    """A link was refused before a message of the other side was read."""
    TOKEN = "token"
    """A client's token was refused, by TLS or HTTP."""
    HTTP_TOKEN = "http-token"
    """A token of the HTTP server was made or withdrawn."""
    LEADER = "leader"
    HELD = "held"
    """Entries were held because their writer's clock runs ahead, or let in by an operator."""
    UNFIT = "unfit"
    """An operator decided about an entry in quarantine."""
    FORK = "fork"
    """A log has forked, or was healed."""
    INCARNATION = "incarnation"
    """The node writes as somebody new: restored, rebuilt, copied, rolled back."""
    CLOCK = "clock"
    PAUSE = "pause"
    CLUSTER = "cluster"
    """A cloud node was told which cluster it serves no more."""
    TENANT = "tenant"
    NODE = "node"
    """The node, or one of its actors, was told to stop, to read its configuration again, to log another way,
    not to lead, to drop its links, to mend its documents or to forget history."""
    PRUNED = "pruned"
    """The oldest rows of the audit log itself have gone."""


@message(189)
class Happened(Message):
    """An actor to ``store``: this belongs into the audit log."""

    event: str
    """One of ``Event``."""
    subject: str = ""
    outcome: str = ""
    who: str = ""
    key_id: str = ""
    left_out: Count = 0
    """Events of this kind since the last row, of which there is no row."""


@message(236, Channel.CLIENT)
class Audited(Message):
    """To ``store``: this belongs into the audit log, besides what the store carries out itself.

    It holds names and addresses, never a value or a secret. Answered by Done or Refused.
    """

    event: str
    """``invited``, ``joined``, ``http-token``, ``token`` or ``key``."""
    subject: str = ""
    """Whom or what it was done to."""
    outcome: str = ""
    """How it went; of what was refused the reason."""
    key_id: str = ""
    """Which key it is about, never the key."""
    left_out: Count = 0
    """Events of this kind since the last row, of which there is no row."""


@message(237, Channel.CLIENT)
class Behalf(Message):
    """To ``store``: a client's request, which it makes for somebody else. Answered as that request is."""

    who: str
    """Whom the client has let in, such as the name of an HTTP token."""
    payload: bytes
    """An encoded message of a client; no ``Behalf``."""
