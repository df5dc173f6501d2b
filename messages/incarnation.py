"""What is said about logs that must not be continued. Tag 67; 180 was used."""

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
