"""What the actors of a node say to each other about its own log. Tags 180 to 189."""

from __future__ import annotations

from entgldb.messages.model import Origin
from entgldb.messages.schema import Message, message


@message(180)
class OwnLogSeen(Message):
    """A session to store: a peer has an entry of our own origin that our file has not, or has otherwise."""

    origin: Origin
    seq: int
    hash: bytes
