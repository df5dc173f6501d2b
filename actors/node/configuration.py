"""The slice of the configuration and of the remote peers that each child is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from entgldb.actors.behaviour import WARNING, Context
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local.actors import Configure
from entgldb.messages.local.pauses import Pause
from entgldb.messages.remote_peers import PeerType, read_peer
from entgldb.messages.schema import Json
from entgldb.messages.settings import NodeSettings


def configure(settings: NodeSettings, name: str) -> Configure:
    """The one slice of the child ``name``."""
    return Configure(log_level=settings.log_level, **{name: getattr(settings, name)})


def static_peers(
    peers: tuple[dict[str, Json], ...], count: Callable[[Reason], None], ctx: Context
) -> dict[str, str]:
    """Enabled StaticRemote peers, node id -> address; a document that cannot be one is left out."""
    static = {}
    for document in peers:
        try:
            peer = read_peer(document)
        except EntglError as fault:
            count(Reason.INVALID)
            ctx.log(WARNING, f"remote peer left out: {fault.text}")
            continue
        if peer.type is PeerType.STATIC_REMOTE and peer.enabled:
            static[peer.node_id] = peer.address
    return static


def pause_in_words(pause: Pause | None) -> str:
    """The text of its alarm; empty where there is no pause."""
    if pause is None:
        return ""
    until = ""
    if pause.until_ms is not None:
        until = f" until {datetime.fromtimestamp(pause.until_ms / 1000, UTC):%F %T}Z"
    return f"an operator has paused {pause.what} sync of this node{until}: entgldb resume {pause.what}"
