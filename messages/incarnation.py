"""What is said about logs that must not be continued. Tags 67 and 180 to 189."""

from __future__ import annotations

from entgldb.messages.client import RequestId
from entgldb.messages.model import Origin
from entgldb.messages.schema import Channel, Message, message


@message(67, Channel.CLIENT)
class HealOrigin(Message):
    """Keep one branch of a forked log on all nodes: ``ours`` or ``theirs``. Answered by CommitDone."""

    request: RequestId
    origin: Origin
    keep: str


@message(180)
class OwnLogSeen(Message):
    """A session to store: a peer has an entry of our own origin that our file has not, or has otherwise."""

    origin: Origin
    seq: int
    hash: bytes
