"""The members of the cluster and the entries that each has: tags 140-149, 165, 171, 197 and 198."""

from __future__ import annotations

from entgldb.messages.schema import Json, Message, message
from entgldb.messages.wire import Member


@message(140)
class NoteSelf(Message):
    """Node to store: write what rarely changes of this node into ``_system_nodes``, if it differs."""

    key: str = ""
    """Of the certificate that this node shows; empty: it shows none, or it is not known yet."""


@message(165)
class KeyShown(Message):
    """Sync to node: the key of the certificate that this node shows, SHA-256 in hex."""

    key: str


@message(141)
class NodesChanged(Message):
    """Store to node, and node to sync: ``_system_nodes`` as it stands, one JSON document per node."""

    nodes: tuple[dict[str, Json], ...]


@message(142)
class MembersHeard(Message):
    """Gateway to sync: rows that came by a cloud link, each of the cloud node itself."""

    rows: tuple[Member, ...]


@message(143)
class RememberMembers(Message):
    """Sync to store: rows that have changed since the last time, to be kept in the file."""

    rows: tuple[Member, ...]


@message(144)
class Prune(Message):
    """Oplog to store: one bounded step; answered by Pruned after its commit."""

    aged: dict[str, int]
    """Origin -> seq: stable and old enough."""
    stable: dict[str, int]
    """Origin -> seq: every member that counts has it."""
    bytes_max: int
    """Larger than this the log is pruned of what is stable, the oldest first."""
    mark_ms: int
    """The store notes its vector where the last mark is that much older than now."""
    aged_ms: int
    """Only the latest of the marks from before that is needed."""


@message(145)
class Pruned(Message):
    """Store to oplog: so many log rows went; ``more`` are waiting."""

    rows: int
    more: bool


@message(146)
class Collect(Message):
    """Oplog to store: one bounded step, beginning after ``after_lsn``; answered by Collected."""

    frontier: dict[str, int]
    after_lsn: int


@message(147)
class Collected(Message):
    """Store to oplog: so many tombstones went."""

    rows: int
    after_lsn: int
    more: bool
    waits: bool = False
    """Nothing goes while an entry is in quarantine: to be asked again."""


@message(197)
class TendKey(Message):
    """Store to itself: make a new cluster key, if one that was expelled has the present one, and seal secrets
    under the one that counts."""


@message(198)
class SettleSecret(Message):
    """Gateway to store: of the two secrets of a cloud peer the one before the present one may go."""

    node_id: str
    secret: str
    """The present one, as it stands in the document; empty: the time of the other one is over."""


@message(171)
class Settled(Message):
    """Oplog to sync, at each look: the entries that all members have, for this node's row."""

    vector: dict[str, int]


@message(148)
class CompactFile(Message):
    """Oplog to store, and store to itself: give a step's free pages back to the disk.

    ``step``: 0 begins; of the others each asks for the next. FileCompacted tells the end.
    """

    step: int = 0


@message(149)
class FileCompacted(Message):
    """Store to oplog: sizes in bytes; ``code`` is empty, or what kept it from being done.

    ``longest``: seconds of the step that took longest, for which writers waited.
    """

    before: int
    after: int
    seconds: float
    longest: float
    """Seconds of the step that took longest: so long writers waited."""
    code: str = ""
    text: str = ""
    hint: str = ""
