"""The rules of collections, and what people decide about conflicts: client tags 62-64 and 73."""

from __future__ import annotations

from entgldb.messages.client import RequestId
from entgldb.messages.schema import Channel, Count, Message, message


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
