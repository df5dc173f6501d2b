"""``InitialRemotePeers``: put once this node knows what the cluster has, and again until the store has them.

Before a peer has given all it has, its tombstones may be missing here: a peer that somebody has removed would
come back.
"""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.messages.client import Report
from entgldb.messages.local.actors import ApplyInitialPeers, InitialPeersApplied, Tick
from entgldb.messages.schema import Message
from entgldb.messages.settings import NodeSettings

SYNCED_POLL: Final = 0.25
"""Seconds between questions to sync whether a first peer has given all it had."""
AGAIN_SECONDS: Final = 5.0
"""The store has so long to answer before it is told them once more: it may be dead, or its disk full."""


class InitialPeers:
    """A part of the node actor."""

    def __init__(self) -> None:
        self._met = False
        self._ticket = 0
        """That of the last ApplyInitialPeers; 0: it is too early for any."""
        self._done = 0
        """The ticket that the store has answered."""

    @property
    def early(self) -> bool:
        """Whether it is not known yet what the cluster has."""
        return not self._ticket

    def peer_up(self, ctx: Context) -> None:
        """A link is there: with the first, ask sync how far it is."""
        if not self._met:
            self._met = True
            ctx.after(SYNCED_POLL, Tick("synced"))

    def judge(self, status: Message | None, settings: NodeSettings, ctx: Context) -> None:
        """The status of sync has come, or has not."""
        peers = status.body.get("peers") if isinstance(status, Report) else None
        found = peers if isinstance(peers, list) else []
        if any(isinstance(peer, dict) and peer.get("synced") is True for peer in found):
            self.begin(settings, ctx)
        else:
            ctx.after(SYNCED_POLL, Tick("synced"))

    def begin(self, settings: NodeSettings, ctx: Context) -> None:
        """It is known."""
        if self.early:
            self._ticket = 1
            self._apply(settings, ctx)

    def changed(self, settings: NodeSettings, ctx: Context) -> None:
        """The configuration names others now."""
        if not self.early:
            self._ticket += 1
            self._apply(settings, ctx)

    def tick(self, message: Tick, settings: NodeSettings, ctx: Context) -> None:
        """The store has had its time."""
        if message.generation == self._ticket:
            self._apply(settings, ctx)

    def on_initial_peers_applied(self, message: InitialPeersApplied, ctx: Context) -> None:
        self._done = max(self._done, message.ticket)

    def _apply(self, settings: NodeSettings, ctx: Context) -> None:
        wanted = bool(settings.initial_peers) and settings.store.role != "cloud"
        if wanted and self._done < self._ticket:
            ctx.tell("store", ApplyInitialPeers(settings.initial_peers, self._ticket))
            ctx.after(AGAIN_SECONDS, Tick("initial", self._ticket))
