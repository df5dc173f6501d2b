"""Why a document is not on a node: one reason of a closed set, from what is known here.

Every Reason that the code counts when it drops, delays or refuses something belongs to one of the set,
or never keeps an entry from a node; ``EXPLAINS`` says which, for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from entgldb.messages.errors import Reason
from entgldb.messages.model import SYSTEM_PREFIX, Origin, Version


class WhyReason(StrEnum):
    """The closed set."""

    PEER_OFFLINE = "peer-offline"
    NOT_YET_SENT = "not-yet-sent"
    HELD_CLOCK = "held-clock"
    QUARANTINED = "quarantined"
    OVERWRITTEN = "overwritten"
    DELETED = "deleted"
    EXPIRED = "expired"
    FILTERED = "filtered"
    AUTH = "auth"
    DISK_FULL = "disk-full"
    BEHIND_SNAPSHOT = "behind-snapshot"
    UNKNOWN = "unknown"


_W = WhyReason
EXPLAINS: Final[Mapping[Reason, WhyReason | None]] = {
    # the entry is here, or comes at once by itself
    Reason.DUPLICATE: None,
    Reason.PARENT_ABSENT: None,
    Reason.PARENT_FORGOTTEN: None,
    Reason.REPAIRED: None,
    Reason.HEALED: None,
    # written again by its node, under another name
    Reason.ENDED: None,
    Reason.UNDECIDED: None,
    Reason.TRAILING_FIELD: None,
    Reason.GAP: _W.NOT_YET_SENT,
    Reason.OUT_OF_ORDER: _W.NOT_YET_SENT,
    Reason.BAD_ENTRY: _W.NOT_YET_SENT,
    Reason.STORE_BUSY: _W.NOT_YET_SENT,
    Reason.RELAY_DELAY: _W.NOT_YET_SENT,
    Reason.WINDOW_FULL: _W.NOT_YET_SENT,
    Reason.MALFORMED: _W.NOT_YET_SENT,
    Reason.UNKNOWN_MESSAGE: _W.NOT_YET_SENT,
    Reason.TOO_LARGE: _W.NOT_YET_SENT,
    Reason.HANDLER_FAILED: _W.NOT_YET_SENT,
    Reason.HUNG: _W.NOT_YET_SENT,
    Reason.FORK: _W.QUARANTINED,
    Reason.QUARANTINED: _W.QUARANTINED,
    Reason.UNFIT: _W.QUARANTINED,
    Reason.TOO_MANY_ORIGINS: _W.QUARANTINED,
    Reason.NOT_ATTESTED: _W.QUARANTINED,
    Reason.HELD_CLOCK: _W.HELD_CLOCK,
    Reason.HELD_FULL: _W.HELD_CLOCK,
    Reason.FILTERED: _W.FILTERED,
    Reason.BEHIND_SNAPSHOT: _W.BEHIND_SNAPSHOT,
    Reason.SNAPSHOT_GONE: _W.BEHIND_SNAPSHOT,
    Reason.SNAPSHOT_USELESS: _W.BEHIND_SNAPSHOT,
    # there is no link
    Reason.UNREACHABLE: _W.PEER_OFFLINE,
    Reason.WRONG_NODE: _W.PEER_OFFLINE,
    Reason.WRONG_PROTOCOL: _W.PEER_OFFLINE,
    Reason.DUPLICATE_LINK: _W.PEER_OFFLINE,
    Reason.DUPLICATE_NODE: _W.PEER_OFFLINE,
    Reason.REINCARNATED: _W.PEER_OFFLINE,
    Reason.HANDSHAKE_TIMEOUT: _W.PEER_OFFLINE,
    Reason.HEARTBEAT_LOST: _W.PEER_OFFLINE,
    Reason.SLOW_READER: _W.PEER_OFFLINE,
    Reason.IDLE: _W.PEER_OFFLINE,
    Reason.TOO_MANY_LINKS: _W.PEER_OFFLINE,
    Reason.PEER_CLOSED: _W.PEER_OFFLINE,
    Reason.ISOLATED: _W.PEER_OFFLINE,
    Reason.PAUSED: _W.PEER_OFFLINE,
    Reason.RETIRED: _W.PEER_OFFLINE,
    Reason.STOPPING: _W.PEER_OFFLINE,
    Reason.NOT_GATEWAY: _W.PEER_OFFLINE,
    Reason.PEER_DISABLED: _W.PEER_OFFLINE,
    Reason.PEER_REMOVED: _W.PEER_OFFLINE,
    Reason.PEER_CHANGED: _W.PEER_OFFLINE,
    Reason.STALE_EPOCH: _W.PEER_OFFLINE,
    Reason.STOOD_DOWN: _W.PEER_OFFLINE,
    Reason.TENANT_CLOSED: _W.PEER_OFFLINE,
    Reason.TOO_MANY_TENANTS: _W.PEER_OFFLINE,
    Reason.STORAGE_UNAVAILABLE: _W.PEER_OFFLINE,
    # the cloud ended it: what is beyond the quota has to go, or the quota to grow
    Reason.QUOTA_DOCUMENTS: _W.PEER_OFFLINE,
    Reason.QUOTA_BYTES: _W.PEER_OFFLINE,
    Reason.QUOTA_WRITES: _W.PEER_OFFLINE,
    Reason.QUOTA_LINKS: _W.PEER_OFFLINE,
    Reason.QUOTA_ORIGINS: _W.PEER_OFFLINE,
    # there is no trust
    Reason.TLS_REFUSED: _W.AUTH,
    Reason.WRONG_KEY: _W.AUTH,
    Reason.NOT_A_MEMBER: _W.AUTH,
    Reason.OLD_KEY: _W.AUTH,
    # of its log too, what was written after it does not count
    Reason.EXPELLED: _W.AUTH,
    Reason.CLOCK: _W.AUTH,
    Reason.WRONG_CLUSTER: _W.AUTH,
    Reason.OTHER_CLUSTER: _W.AUTH,
    Reason.SECRET_MISSING: _W.AUTH,
    Reason.AUTHORITY_UNREACHABLE: _W.AUTH,
    Reason.AUTHORITY_REFUSED: _W.AUTH,
    Reason.AUTHORITY_ERROR: _W.AUTH,
    Reason.TOKEN_REFUSED: _W.AUTH,
    Reason.TOKEN_EXPIRED: _W.AUTH,
    Reason.TOO_MANY_CREDENTIALS: _W.AUTH,
    Reason.NO_TENANT: _W.AUTH,
    Reason.OTHER_TENANT: _W.AUTH,
    Reason.TENANT_SUSPENDED: _W.AUTH,
    Reason.TENANT_DELETED: _W.AUTH,
    # there is no room
    Reason.DISK_LOW: None,
    Reason.DISK_FULL: _W.DISK_FULL,
    Reason.DISK_ERROR: _W.DISK_FULL,
    # the writer was told: there never was an entry, or nobody knows
    Reason.NOT_ALLOWED: _W.UNKNOWN,
    Reason.INVALID: _W.UNKNOWN,
    Reason.UNKNOWN_OUTCOME: _W.UNKNOWN,
    Reason.ALREADY_EXISTS: _W.UNKNOWN,
    Reason.VERSION_MISMATCH: _W.UNKNOWN,
}


class KeyState(NamedTuple):
    """The state of a key in this node's file."""

    collection: str
    current: Version | None = None
    """The version shown, or the tombstone's."""
    live: bool = False
    newest: Version | None = None
    """The newest entry of the key met anywhere in the file, applied or not; ``current`` at least."""
    held: bool = False
    """It waits for time to catch up."""
    unfit: bool = False
    """It is in quarantine, or its origin has a fork."""
    recorded: bool = False
    """It is only recorded: a system entry from a cloud link."""
    expired: bool = False
    """``current`` is not shown because its moment has passed."""

    @property
    def ended(self) -> WhyReason:
        """Why ``current`` is not shown."""
        return WhyReason.EXPIRED if self.expired else WhyReason.DELETED


class Other(NamedTuple):
    """The state of another node, as far as this node knows it."""

    node_id: str
    vector: Mapping[Origin, int] | None = None
    linked: bool = False
    reason: str = ""
    """Why there is no link, as status tells it."""
    cloud: bool = False
    held: Mapping[Origin, int] = {}
    """Origin -> seq that it holds back."""
    behind_floor: bool = False
    """It lacks entries that are pruned here."""


class Ourselves(NamedTuple):
    """How this node is: where it has no trace of a key, the reason is in how it is connected."""

    disk_full: bool = False
    behind_in: int = 0
    behind_snapshot: bool = False
    absent: tuple[Other, ...] = ()
    """Nodes that we are not linked to."""


def here(known: KeyState, us: Ourselves) -> WhyReason | None:
    """Why the key is not shown on this node; None: it is."""
    if known.live:
        return None
    if known.held:
        return WhyReason.HELD_CLOCK
    if known.unfit:
        return WhyReason.QUARANTINED
    if known.recorded:
        return WhyReason.FILTERED
    if known.current is not None:
        return known.ended
    if us.disk_full:
        return WhyReason.DISK_FULL
    if us.behind_snapshot:
        return WhyReason.BEHIND_SNAPSHOT
    if us.behind_in:
        return WhyReason.NOT_YET_SENT
    reasons = [_no_link(other.reason) for other in us.absent]
    return next(
        (one for one in (WhyReason.AUTH, WhyReason.PEER_OFFLINE) if one in reasons), WhyReason.UNKNOWN
    )


def there(known: KeyState, other: Other) -> WhyReason | None:
    """Why another node does not show what this node knows as the newest; None: it does."""
    newest = known.newest or known.current
    if newest is None:
        return WhyReason.UNKNOWN
    if other.cloud and known.collection.startswith(SYSTEM_PREFIX):
        return WhyReason.FILTERED
    if other.vector is not None and other.vector.get(newest.origin, 0) >= newest.seq:
        return None if known.live or known.current != newest else known.ended
    if known.held or other.held.get(newest.origin, 0) >= newest.seq:
        return WhyReason.HELD_CLOCK
    if not other.linked:
        return _no_link(other.reason)
    if known.unfit and known.current is None:
        return WhyReason.QUARANTINED
    if other.behind_floor:
        return WhyReason.BEHIND_SNAPSHOT
    return WhyReason.UNKNOWN if other.vector is None else WhyReason.NOT_YET_SENT


def of_version(version: Version, known: KeyState, *, delete: bool) -> WhyReason | None:
    """Why one version in the log is not what is shown; None: it is."""
    if version == known.current:
        return known.ended if delete or known.expired else None
    return WhyReason.OVERWRITTEN


def _no_link(word: str) -> WhyReason:
    """Why a node without a link has nothing: the reason status gives for the link, in the closed set."""
    try:
        return EXPLAINS[Reason(word)] or WhyReason.PEER_OFFLINE
    except ValueError:
        return WhyReason.PEER_OFFLINE
