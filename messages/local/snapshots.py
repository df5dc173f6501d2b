"""Messages between the actors of a node about snapshots, given and taken. Tags 150 to 159."""

from __future__ import annotations

from entgldb.messages.model import Vector
from entgldb.messages.schema import Message, Record, message, record


@record
class Frozen(Record):
    """A snapshot that lies ready."""

    id: str
    vector: Vector
    chunks: int
    """All of them, the head included."""
    common: int
    """So many, from the first on, are for everybody; the rest only for members of the cluster."""
    rows: int
    bytes: int


@message(150)
class FreezeSnapshot(Message):
    """A session to oplog: the peer needs a snapshot. Answered by SnapshotFrozen."""

    owner: str
    session: str
    gone: str = ""
    """The id of one that was offered and of which a chunk could not be read: another is needed."""


@message(151)
class SnapshotFrozen(Message):
    """Oplog to a session's owner: one lies ready, or none can be made."""

    session: str
    snapshot: Frozen | None


@message(152)
class SnapshotWritten(Message):
    """Oplog's edge to oplog: the file is whole, or that failed, for ``fault``."""

    snapshot: Frozen | None
    fault: str = ""


@message(153)
class StageSnapshot(Message):
    """A session to oplog: such a one is offered to us, or is still coming. Answered by SnapshotStaged."""

    owner: str
    session: str
    id: str
    chunks: int
    cloud: bool
    bytes: int
    """Of all chunks, as the offer says: no more is taken."""
    peer: str = ""


@message(154)
class StageChunk(Message):
    """A session to oplog: a chunk came. Answered by SnapshotStaged."""

    session: str
    id: str
    chunk: int
    payload: bytes
    sha256: bytes


@message(155)
class SnapshotStaged(Message):
    """Oplog to a session's owner: all chunks before ``next`` are on disk.

    ``refused`` is empty, or the Reason for which this snapshot is not taken (any more).
    """

    session: str
    id: str
    next: int
    refused: str = ""


@message(156)
class InstallSnapshot(Message):
    """Oplog to store: merge what is staged at ``staged``."""

    owner: str
    session: str
    id: str
    staged: str
    cloud: bool
    peer: str = ""


@message(167)
class MergeOn(Message):
    """Store to itself: take the next step of a merge, or of removing what one has left; the last one asked
    for counts."""

    number: int


@message(157)
class SnapshotInstalled(Message):
    """Store to oplog and to the session's owner: it is merged and committed, or ``refused`` says why not."""

    session: str
    id: str
    changes: Vector
    refused: str = ""


@message(158)
class LeaveSnapshot(Message):
    """A session to oplog: its peer does not give this one any more; another's may be taken."""

    session: str
    id: str


@message(159)
class StoreBegan(Message):
    """Node to oplog: the store was started anew, and knows nothing of what it was merging."""
