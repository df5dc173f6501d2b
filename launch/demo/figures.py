"""The figures that the demo measures on the way, with their targets."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from entgldb.launch.playground.processes import cpu_seconds, pss_bytes
from entgldb.messages.errors import NoAnswerError
from entgldb.messages.model import REMOTE_PEERS

if TYPE_CHECKING:
    from entgldb.launch.playground.cluster import Member

FEED_PROBES: Final = 40
"""Single writes whose way to another node is timed."""
PROBE_SECONDS: Final = 5.0
PROBE_POLL_SECONDS: Final = 0.0005
IDLE_LOOK_SECONDS: Final = 5.0
"""How long the nodes are watched doing nothing."""


@dataclass(frozen=True, slots=True)
class DemoFigure:
    """One measurement."""

    name: str
    value: float
    wanted: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.value <= self.wanted

    def fields(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}

    def line(self) -> str:
        """For a person."""
        measured, wanted = f"{self.value:.2f} {self.unit}", f"<= {self.wanted:g} {self.unit}"
        return f"{self.name:<38} {measured:>11}  {wanted:<9}{'' if self.reached else '  missed'}"


class Figures:
    """Taken by the steps; a figure that no step came to stays None."""

    def __init__(self) -> None:
        self.import_to_all: float | None = None
        self.visible_ms: float | None = None
        self.failover: float | None = None
        self.link_changes: list[float] = []
        self.usage: list[dict[str, Any]] = []

    def all(self) -> list[DemoFigure]:
        """Those that were taken."""
        lan = [row for row in self.usage if row["role"] == "lan"]
        taken = [
            ("airports imported and on all nodes", self.import_to_all, 6, "s"),
            ("a write on A visible on B, p50", self.visible_ms, 10, "ms"),
            ("peer change to link change, slowest", max(self.link_changes, default=None), 1, "s"),
            ("gateway killed to the next link", self.failover, 5, "s"),
            ("memory of a LAN node (PSS), largest", max((r["pss_mb"] for r in lan), default=None), 110, "MB"),
            ("a LAN node idle, most", max((r["idle_cpu_percent"] for r in lan), default=None), 1, "%"),
        ]
        return [
            DemoFigure(name, round(value, 3), wanted, unit)
            for name, value, wanted, unit in taken
            if value is not None
        ]


def visibility_ms(writer: Member, reader: Member) -> float:
    """From calling put on one node to reading the document on another, median. Raises NoAnswerError."""
    taken = []
    for number in range(FEED_PROBES):
        key, begun = f"p{number}", time.monotonic()
        writer.db["probes"].put(key, {"number": number})
        while reader.db["probes"].get(key) is None:
            if time.monotonic() - begun > PROBE_SECONDS:
                raise NoAnswerError(f"{key} is not on {reader.node_id} after {PROBE_SECONDS:.0f} s")
            time.sleep(PROBE_POLL_SECONDS)
        taken.append((time.monotonic() - begun) * 1000)
    return statistics.median(taken)


def since_peer_change(member: Member) -> float:
    """Seconds since the list of remote peers was last written, by its writer's clock.

    All nodes of the demo have the same clock, so a change is timed from the moment it was durable, and
    the start of the command that made it does not count.
    """
    now = time.time()
    changes = member.db.changes(collection=REMOTE_PEERS)
    return max(0.0, now - max(change.at_ms for change in changes) / 1000)


def usage(members: list[Member]) -> list[dict[str, Any]]:
    """Memory, and processor time while idle, of every running node, all its processes together."""
    pids = {str(member.directory): member.pids() for member in members}
    before = {name: cpu_seconds(pids[name]) for name in pids}
    begun = time.monotonic()
    time.sleep(IDLE_LOOK_SECONDS)
    used = {name: cpu_seconds(pids[name]) - before[name] for name in pids}
    seconds = time.monotonic() - begun
    return [
        {
            "node_id": member.node_id,
            "role": member.role,
            "directory": name,
            "processes": len(pids[name]),
            "pss_mb": round(pss_bytes(pids[name]) / 1e6, 1),
            "idle_cpu_percent": round(100 * used[name] / seconds, 2),
        }
        for name, member in zip(pids, members, strict=True)
    ]
