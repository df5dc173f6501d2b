"""``add-cloud-peer --wait``: until every node lists the peer and the gateway has connected."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.client.database import Database

POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Waited:
    """How far the peer has come."""

    nodes: int
    listed: int
    gateway: str
    connected: bool
    reason: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.connected and self.listed == self.nodes

    def fields(self) -> dict[str, Any]:
        return {
            "nodes": self.nodes,
            "listed": self.listed,
            "gateway": self.gateway,
            "connected": self.connected,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
        }

    def sentence(self) -> str:
        link = f"connected in {self.seconds:.1f} s" if self.connected else self.reason
        return f"on {self.listed} of {self.nodes} nodes; gateway {self.gateway or 'none'} {link}"


def wait_until_connected(db: Database, node_id: str, begun: float, patience: float) -> Waited:
    """Look until all is well or ``patience`` seconds are over; return the last look."""
    while True:
        seen = look(db, node_id, begun)
        if seen.ok or time.monotonic() - begun > patience:
            return seen
        time.sleep(POLL_SECONDS)


def look(db: Database, node_id: str, begun: float) -> Waited:
    """The state as this node knows it: its peers by their vectors, the gateway's links by its claim."""
    try:
        sync, election = db.status("sync"), db.status("election")
    except EntglError as fault:
        return Waited(1, 1, "", False, fault.text, time.monotonic() - begun)
    peers = [peer for peer in sync.get("peers", []) if peer.get("state") == "connected"]
    # a peer that lacks nothing of ours has taken the new document too
    listed = 1 + sum(1 for peer in peers if peer.get("behind_out") == 0)
    gateway, connected = str(election.get("gateway") or ""), node_id in election.get("connected", ())
    reason = "" if connected else "has not connected yet" if gateway else "no gateway is elected"
    if election.get("is_gateway") and not connected:
        rows = db.status("gateway").get("links", [])
        row: dict[str, Any] = next((row for row in rows if row.get("node_id") == node_id), {})
        reason = str(row.get("reason") or row.get("state") or reason)
    return Waited(1 + len(peers), listed, gateway, connected, reason, time.monotonic() - begun)
