"""The ways by which this node meets others, as ``status`` tells them: dials, links, discovery."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.sync.dialler import Dialler
from entgldb.messages.local.actors import DiscoveryTold
from entgldb.messages.schema import Json
from entgldb.messages.settings import SyncSettings


class Traffic:
    """Counts since the start of this actor."""

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler
        self._discovery: DiscoveryTold | None = None
        self._accepted = self._opened = 0

    def link_up(self, *, inbound: bool) -> None:
        """A link was opened, by another node or by this one."""
        self._accepted, self._opened = self._accepted + inbound, self._opened + (not inbound)

    def on_discovery_told(self, message: DiscoveryTold, ctx: Context) -> None:
        self._discovery = message

    def report(self, settings: SyncSettings, connected: set[str], ctx: Context) -> dict[str, Json]:
        """``links``, ``unanswered`` and ``discovery`` of ``sync`` status."""
        counts = {"dialled": self._dialler.dialled, "opened": self._opened, "accepted": self._accepted}
        return {
            "links": counts,
            "unanswered": self._dialler.failures(connected, ctx),
            "discovery": self._found(settings),
        }

    def _found(self, settings: SyncSettings) -> dict[str, Json]:
        told = self._discovery
        if settings.role == "cloud" or not settings.discovery:
            return {"state": "off"}
        if told is None:
            return {"state": "starting"}
        return {
            "state": "works" if told.works else "failed",
            "text": told.text,
            "addresses": list(told.addresses),
            "heard": told.heard,
            "strangers": told.strangers,
        }
