"""Errors that name what is wrong, where, and what to do; and the closed set of reasons."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable words that programs match on. Append only."""

    INVALID = "invalid"
    NOT_FOUND = "not-found"
    EXISTS = "already-exists"
    TOO_LARGE = "too-large"
    NOT_ALLOWED = "not-allowed"
    UNKNOWN_OUTCOME = "unknown-outcome"
    UNSUPPORTED = "unsupported"
    TOKEN_EXPIRED = "token-expired"
    NO_NODE = "no-node"
    TIMEOUT = "timeout"
    IN_USE = "in-use"
    CONFIG = "config"
    CORRUPT = "corrupt"
    DISK_FULL = "disk-full"
    PROTOCOL = "protocol"
    SECRET = "secret"
    TOKEN_REFUSED = "token-refused"
    INTERNAL = "internal"
    DISK_ERROR = "disk-error"
    CLOCK = "clock"
    BUSY = "busy"
    NOT_SPREAD = "not-spread"
    VERSION_MISMATCH = "version-mismatch"


OF_THE_DISK = (ErrorCode.DISK_FULL, ErrorCode.DISK_ERROR, ErrorCode.CORRUPT)
"""Errors of the whole disk: they also fail every other write of the same transaction."""


class EntglError(Exception):
    """Base of every error this package raises on purpose.

    ``code`` is a stable word, ``text`` a sentence for a person, ``hint`` what to try next.
    ``definite`` is False when the operation may have happened all the same. ``stored`` is how many documents
    of a call for many were stored, updated or deleted before it. ``key`` is the one that an ``insert`` had
    made.
    """

    code: ErrorCode = ErrorCode.INTERNAL
    stored: int = 0
    key: str = ""

    def __init__(
        self, text: str, *, code: ErrorCode | None = None, hint: str = "", definite: bool = True
    ) -> None:
        super().__init__(text)
        self.code = code if code is not None else type(self).code
        self.text = text
        self.hint = hint
        self.definite = definite


class InvalidError(EntglError):
    """A value the caller gave is not acceptable; the text names the field."""

    code = ErrorCode.INVALID


class NotFoundError(EntglError):
    """The caller named something that does not exist."""

    code = ErrorCode.NOT_FOUND


class ExistsError(EntglError):
    """A document, peer or node is there already; nothing of the request was done."""

    code = ErrorCode.EXISTS


class VersionError(EntglError):
    """Another version of the document stands than the caller expected; the text names both.

    Nothing of the commit was done.
    """

    code = ErrorCode.VERSION_MISMATCH


class NotAllowedError(EntglError):
    """The operation is refused here whoever asks, such as a write to a system collection."""

    code = ErrorCode.NOT_ALLOWED


class TooLargeError(EntglError):
    """A named limit was crossed; the text gives the limit and the size."""

    code = ErrorCode.TOO_LARGE


class UnsupportedError(EntglError):
    """A filter operator or option that this release does not have."""

    code = ErrorCode.UNSUPPORTED


class NoNodeError(EntglError):
    """No node is running in the directory."""

    code = ErrorCode.NO_NODE
    lasting: bool = False
    """Whether it is no use to wait for one: the program itself has the directory open."""


class NoAnswerError(EntglError):
    """No answer came in time; the operation may have happened.

    ``request`` is the id of a write that had none: the same write with ``request=`` is done once; an insert
    takes the same ``key``, too.
    """

    code = ErrorCode.TIMEOUT
    request: str = ""
    detail: str = ""
    """The fault that broke the request; empty where only time has passed."""


class BusyError(EntglError):
    """The node is there and has no place, or no time, for one more client."""

    code = ErrorCode.BUSY


class ConfigError(EntglError):
    """The configuration is wrong; the text lists every fault with its place."""

    code = ErrorCode.CONFIG


class CorruptError(EntglError):
    """The database file fails its own checks."""

    code = ErrorCode.CORRUPT


class SecretError(EntglError):
    """A client secret cannot be resolved or unsealed; the text never holds the secret."""

    code = ErrorCode.SECRET


class TokenExpired(EntglError):  # noqa: N818 -- the promised public name of this error
    """A change-feed token belongs to another file; start over with ``since=None``."""

    code = ErrorCode.TOKEN_EXPIRED


class ProtocolError(EntglError):
    """Bytes that break the wire format: the link that carried them closes, the node goes on."""

    code = ErrorCode.PROTOCOL


class UnknownMessage(ProtocolError):  # noqa: N818 -- a signal to count and ignore, not a failure
    """A message number this release does not know, or may not arrive by this channel."""

    request_id: int = 0
    """The id of the request that cannot be taken, so that it can be refused."""


class Reason(StrEnum):
    """Why something was dropped, delayed or refused: one closed set, counted and shown in ``status``."""

    # entries
    DUPLICATE = "duplicate"
    GAP = "gap"
    OUT_OF_ORDER = "out-of-order"
    FORK = "fork"
    QUARANTINED = "quarantined"
    HELD_CLOCK = "held-clock"
    HELD_FULL = "held-full"
    FILTERED = "filtered"
    PARENT_ABSENT = "parent-absent"
    PARENT_FORGOTTEN = "parent-forgotten"
    BAD_ENTRY = "bad-entry"
    UNFIT = "unfit"
    TOO_MANY_ORIGINS = "too-many-origins"
    NOT_ATTESTED = "not-attested"
    STORE_BUSY = "store-busy"
    RELAY_DELAY = "relay-delay"
    REPAIRED = "repaired"
    UNDECIDED = "undecided"
    WINDOW_FULL = "window-full"
    BEHIND_SNAPSHOT = "behind-snapshot"
    SNAPSHOT_GONE = "snapshot-gone"
    SNAPSHOT_USELESS = "snapshot-useless"
    # frames and messages
    MALFORMED = "malformed"
    UNKNOWN_MESSAGE = "unknown-message"
    TRAILING_FIELD = "trailing-field"
    TOO_LARGE = "too-large"
    HANDLER_FAILED = "handler-failed"
    HUNG = "hung"
    # links
    UNREACHABLE = "unreachable"
    TLS_REFUSED = "tls-refused"
    CLOCK = "clock"
    WRONG_CLUSTER = "wrong-cluster"
    OTHER_CLUSTER = "other-cluster"
    WRONG_PROTOCOL = "wrong-protocol"
    WRONG_NODE = "wrong-node"
    WRONG_KEY = "wrong-key"
    DUPLICATE_LINK = "duplicate-link"
    DUPLICATE_NODE = "duplicate-node"
    REINCARNATED = "reincarnated"
    HEALED = "healed"
    ENDED = "ended"
    EXPELLED = "expelled"
    NOT_A_MEMBER = "not-a-member"
    OLD_KEY = "old-key"
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    HEARTBEAT_LOST = "heartbeat-lost"
    SLOW_READER = "slow-reader"
    IDLE = "idle"
    TOO_MANY_LINKS = "too-many-links"
    PEER_CLOSED = "peer-closed"
    ISOLATED = "isolated"
    RETIRED = "retired"
    PAUSED = "paused"
    STOPPING = "stopping"
    # cloud links
    NOT_GATEWAY = "not-gateway"
    PEER_DISABLED = "peer-disabled"
    PEER_REMOVED = "peer-removed"
    PEER_CHANGED = "peer-changed"
    SECRET_MISSING = "secret-missing"
    AUTHORITY_UNREACHABLE = "authority-unreachable"
    AUTHORITY_REFUSED = "authority-refused"
    AUTHORITY_ERROR = "authority-error"
    TOKEN_REFUSED = "token-refused"
    TOKEN_EXPIRED = "token-expired"
    TOO_MANY_CREDENTIALS = "too-many-credentials"
    NO_TENANT = "no-tenant"
    OTHER_TENANT = "other-tenant"
    TENANT_SUSPENDED = "tenant-suspended"
    TENANT_DELETED = "tenant-deleted"
    TENANT_CLOSED = "tenant-closed"
    TOO_MANY_TENANTS = "too-many-tenants"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    QUOTA_DOCUMENTS = "quota-documents"
    QUOTA_BYTES = "quota-bytes"
    QUOTA_WRITES = "quota-writes"
    QUOTA_LINKS = "quota-links"
    QUOTA_ORIGINS = "quota-origins"
    # requests
    NOT_ALLOWED = "not-allowed"
    INVALID = "invalid"
    UNKNOWN_OUTCOME = "unknown-outcome"
    ALREADY_EXISTS = "already-exists"
    VERSION_MISMATCH = "version-mismatch"
    DISK_LOW = "disk-low"
    DISK_FULL = "disk-full"
    DISK_ERROR = "disk-error"
    # election
    STALE_EPOCH = "stale-epoch"
    STOOD_DOWN = "stood-down"


class UnavailableError(Exception):
    """Mixed into an exception of whatever the data is on: that cannot be had, whoever asks."""

    code: ErrorCode = ErrorCode.DISK_ERROR
    hint = ""


def as_own(fault: Exception) -> EntglError:
    """An error of ours as it is, any other exception as ``internal``: a stable word and a sentence."""
    if isinstance(fault, EntglError):
        return fault
    if isinstance(fault, UnavailableError):
        return EntglError(str(fault), code=fault.code, hint=fault.hint)
    return EntglError(f"{type(fault).__name__}: {fault}"[:500], code=ErrorCode.INTERNAL)


def known_reason(word: str, otherwise: Reason = Reason.PEER_CLOSED) -> Reason:
    """The Reason a peer names; a newer node may use a word that we do not know."""
    try:
        return Reason(word)
    except ValueError:
        return otherwise


def of_expelled(node_id: str) -> str:
    """How the machine comes back that was node ``node_id`` until it was expelled.

    Alarms, ``status``, ``doctor`` and a refused invitation say it in the same words. A text that ends with
    ``: entgldb VERB`` has that command as its remedy.
    """
    return (
        f"{node_id} was expelled, for good: its machine comes back under another name, in an empty directory,"
        " by a code of entgldb invite: entgldb init -d NEW --join CODE"
    )


def by_a_code(node_id: str, unless: str = "") -> str:
    """The same of node ``node_id``, where the cluster key that it holds does not count any more."""
    return (
        f"entgldb invite --for {node_id} shows a code there{unless}, and this node takes it while it is"
        " stopped: entgldb rejoin --join CODE"
    )


def if_accepted(node_id: str, by: str) -> str:
    """The same of node ``node_id``, which ``by`` has refused for its key."""
    return f"if you know that this is its machine: entgldb members --accept {node_id} on {by}"
