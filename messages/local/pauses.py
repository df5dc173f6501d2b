"""Between the actors of one node: links that an operator has paused. Tag 176."""

from __future__ import annotations

from entgldb.messages.schema import Message, Millis, Record, message, record


@record
class Pause(Record):
    """An operator has this node have no links of a kind."""

    what: str
    """``lan`` or ``cloud``."""
    since_ms: Millis
    until_ms: Millis | None
    """By the wall clock as it stands now; None: until it is ended."""


@message(176)
class PausesChanged(Message):
    """Store to node, and node to those with links: all pauses that there are."""

    pauses: tuple[Pause, ...]

    def holds(self, what: str) -> Pause | None:
        """The pause of this kind of links, or None."""
        return next((one for one in self.pauses if one.what == what), None)
