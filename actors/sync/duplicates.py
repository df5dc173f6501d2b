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
        if self._is_another(newcomer, rival, ctx):
            self._note(newcomer, rival, ctx)
            return Reason.DUPLICATE_NODE
        return None if newcomer.beats(rival, me) else Reason.DUPLICATE_LINK

    def report(self, ctx: Context) -> list[Json]:
        """The alarms; those about what has not been seen for long are over."""
        for node_id, (_, last) in list(self._refused.items()):
            if ctx.monotonic() - last > ALARM_OVER:
                del self._refused[node_id]
                self._alarms.clear(DUPLICATE_NODE, node_id)
        return self._alarms.report()

    def _is_another(self, newcomer: PeerLink, rival: PeerLink, ctx: Context) -> bool:
        """Whether the newcomer is another process than the one at the other end of a living link."""
        if newcomer.hello is None or rival.hello is None or rival.session is None:
            return False
        lives = (newcomer.hello.life, rival.hello.life)
        return (
            0 not in lives
            and lives[0] != lives[1]
            and (rival.session.silent_for(ctx) <= ALIVE_SHARE * rival.silence)
        )

    def _note(self, newcomer: PeerLink, rival: PeerLink, ctx: Context) -> None:
        node_id, now = newcomer.node_id, ctx.monotonic()
        first = self._refused.get(node_id, (now, now))[0]
        self._refused[node_id] = (first, now)
        if now - first > ALARM_AFTER * rival.silence:
            text = (
                f"two running nodes call themselves {node_id}, at {rival.address} and {newcomer.address}: "
                "stop one of them, or give it a node id of its own"
            )
            if self._alarms.sound(DUPLICATE_NODE, node_id, text, ctx.now_ms()):
                ctx.log(WARNING, text)
