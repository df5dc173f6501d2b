"""Two running nodes with one node id: the second is refused for as long as the first is heard.

A node that was killed and started again looks the same for a moment, while its old link is not yet known to
be dead; so the alarm waits until the refusals have lasted longer than a dead link can.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages.errors import Reason
from entgldb.messages.schema import Json

DUPLICATE_NODE: Final = "duplicate-node"
ALIVE_SHARE: Final = 0.5
"""A share of the silence after which a link is given up: a link heard within this share is alive."""
ALARM_AFTER: Final = 2.0
"""The same, for refusals without an end."""
ALARM_OVER: Final = 90.0
"""Seconds without a refusal after which the alarm ends: longer than the longest backoff."""


class Duplicates:
    """Watches for a second life of a node whose first is still heard."""

    def __init__(self) -> None:
        self._alarms = Alarms()
        self._refused: dict[str, tuple[float, float]] = {}
        """Node id -> when it was refused first and last."""

    def judge(self, newcomer: PeerLink, rival: PeerLink, me: str, ctx: Context) -> Reason | None:
        """Why the second of two links to one node does not stay, or None."""
        living = rival.session
        if (
            living is None
            or not _differ(newcomer, rival)
            or living.silent_for(ctx) > ALIVE_SHARE * living.patience
        ):
            return None if newcomer.beats(rival, me) else Reason.DUPLICATE_LINK
        self._note(newcomer, rival, ALARM_AFTER * living.patience, ctx)
        return Reason.DUPLICATE_NODE

    def report(self, ctx: Context) -> list[Json]:
        """The alarms; those about what has not been seen for long are over."""
        for node_id, (_, last) in list(self._refused.items()):
            if ctx.monotonic() - last > ALARM_OVER:
                del self._refused[node_id]
                self._alarms.clear(DUPLICATE_NODE, node_id)
        return self._alarms.report()

    def _note(self, newcomer: PeerLink, rival: PeerLink, patience: float, ctx: Context) -> None:
        node_id, now = newcomer.node_id, ctx.monotonic()
        first = self._refused.get(node_id, (now, now))[0]
        self._refused[node_id] = (first, now)
        if now - first > patience:
            text = (
                f"two running nodes call themselves {node_id}, at {rival.address} and {newcomer.address}: "
                "stop one of them, or give it a node id of its own"
            )
            if self._alarms.sound(DUPLICATE_NODE, node_id, text, ctx.now_ms()):
                ctx.log(WARNING, text)


def _differ(one: PeerLink, other: PeerLink) -> bool:
    """Whether the two are known to lead to different processes."""
    lives = {0 if link.hello is None else link.hello.life for link in (one, other)}
    return len(lives) == 2 and 0 not in lives
