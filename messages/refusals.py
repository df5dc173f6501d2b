"""Who may write now: what is said about full disks and wrong clocks. Tags 76, 79 and 170 to 179."""

from __future__ import annotations

from entgldb.messages.client import RequestId
from entgldb.messages.schema import Channel, Message, message


@message(76, Channel.CLIENT)
class AcceptClock(Message):
    """To ``store``: go on writing although this node's clock is off against most of its peers.

    Good until it agrees again, or the store is started again. Answered by Done or Refused.
    """


@message(79, Channel.CLIENT)
class ResetClock(Message):
    """To ``store``: the clock is right again, and stamps run far ahead of it: go on as a new writer from now.

    What nobody else has of the old log is written again. Answered by Report (``origin``, ``written``)
    or Refused.
    """

    request: RequestId


@message(170)
class ClockJudged(Message):
    """Sync to store: what the peers' clocks say of ours. Repeated at every heartbeat while it is ``off``."""

    off: bool
    offset_ms: int
    """How far the clocks of those that disagree are ahead of ours, in the middle; negative: behind."""
    against: int
    """Peers that disagree, at the last count."""
    peers: int
    """Peers whose clocks are known, at the last count."""
