"""Telling the links' owners that the log has grown: at once, then never more than they keep up with.

A tell per commit to several receivers collapses under load; with an answer awaited and ranges merged,
writes go on at full speed and no queue grows.
"""

from __future__ import annotations

from dataclasses import dataclass

from entgldb.actors.behaviour import Context
from entgldb.messages.local.actors import Committed, Tick

INTERVAL = 0.005
"""Seconds between two Committed to the same receiver."""
UNANSWERED_MAX = 1.0
"""Seconds after which a receiver that never said Seen (it was restarted, or has no session) is told again."""


@dataclass
class _Receiver:
    name: str
    pending: Committed | None = None
    waiting: bool = False
    sent_at: float = -1e9


class Notices:
    """One unanswered Committed per receiver, one per INTERVAL, ranges merged."""

    def __init__(self, *receivers: str) -> None:
        self._receivers = {name: _Receiver(name) for name in receivers}
        self._timer = False

    def committed(self, first: int, last: int, own_last: int, ctx: Context) -> None:
        """Rows ``first``..``last`` are durable."""
        for receiver in self._receivers.values():
            old = receiver.pending
            receiver.pending = Committed(
                first if old is None else old.first, last, max(own_last, 0 if old is None else old.own_last)
            )
            self._send(receiver, ctx)

    def seen(self, name: str, ctx: Context) -> None:
        """``name`` is ready for more."""
        receiver = self._receivers.get(name)
        if receiver is not None:
            receiver.waiting = False
            self._send(receiver, ctx)

    def tick(self, ctx: Context) -> None:
        """The interval is over."""
        self._timer = False
        for receiver in self._receivers.values():
            self._send(receiver, ctx)

    def _send(self, receiver: _Receiver, ctx: Context) -> None:
        if receiver.pending is None:
            return
        age = ctx.monotonic() - receiver.sent_at
        if receiver.waiting and age < UNANSWERED_MAX:
            return
        if age < INTERVAL:
            if not self._timer:
                self._timer = True
                ctx.after(INTERVAL, Tick("committed"))
            return
        ctx.tell(receiver.name, receiver.pending)
        receiver.pending, receiver.waiting, receiver.sent_at = None, True, ctx.monotonic()
