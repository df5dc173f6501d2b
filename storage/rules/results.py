"""The results of readers and of the apply step; plain data that behaviours may hold."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from entgldb.messages.model import Origin, Vector
from entgldb.messages.wire import Member


class Lasted:
    """How long the end of a transaction took."""

    seconds = 0.0


class LogRow(NamedTuple):
    """An oplog row. ``body`` is None for a delete and for a filtered body."""

    lsn: int
    origin: Origin
    seq: int
    hash: bytes
    collection: str
    header: bytes
    body: bytes | None
    applied: bool
    """False where only recorded: filtered, or a system entry from a cloud link. One in quarantine is not."""
    signature: bytes | None = None
    """By the origin, over its log up to this entry; not every entry has one."""


class Outcome(NamedTuple):
    """The result of applying foreign entries."""

    changes: Vector
    """Origins whose part of the vector moved, with their new heads."""
    refused: str
    """Empty, or the Reason that stopped the batch (gap, bad-entry); the entries before it are applied."""
    counts: Mapping[str, int]
    """Reason -> times: duplicate, held-clock, parent-absent, quarantined, fork, filtered, unfit."""


class Heard(NamedTuple):
    """The last row of a member, and when this node had it."""

    row: Member
    heard_ms: int
    """This node's wall clock, for people to read."""
    lived_ms: int = 0
    """The same moment in the life of the store, where it came from the file."""


class Installed(NamedTuple):
    """The result of installing a snapshot."""

    changes: Vector
    """Origins whose part of the vector moved, with their new heads."""
    refused: str = ""
    """Empty, or the Reason for which nothing was changed."""
    documents: int = 0
    """Taken from the snapshot, tombstones included."""
    deleted: int = 0
    """Deleted because the snapshot covers them and has them no more."""
    reissued: int = 0
    """Entries by which own unsent writes were written again."""
    own_last: int = 0
    """The last log row of these; 0 where there are none."""
    reborn: bool = False
    """Whether this node goes on under a new origin."""
    lost: Mapping[str, int] = MappingProxyType({})
    """Keys of our branch of a log of which something could be kept nowhere, by the Reason."""


class Walked(NamedTuple):
    """One row met by a walk. ``body_sha256`` is computed from the body; None for a tombstone."""

    id: int
    collection: str
    key: str
    origin: Origin
    seq: int
    body_sha256: bytes | None
