"""Many nodes that all know each other: ``python -m tests.simulation.crowd 50`` tells what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, NamedTuple
from unittest.mock import patch

from entgldb.launch.testing.network import VirtualLinks, Weather
from entgldb.messages import codec
from entgldb.messages.schema import Message
from tests.simulation.run import Run
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import Options

NODES: Final = 50
SETTLED_SECONDS: Final = 60.0
"""By then all are linked and equal, and follow one gateway."""
WRITES: Final = 20
WRITE_SECONDS: Final = 0.3
SPREAD_SECONDS: Final = 5.0
"""By then all have a write."""
PASSED_SECONDS: Final = 40.0
"""By then all have told what they have."""
LOOK_SECONDS: Final = 30.0


class Crowd(NamedTuple):
    """What became of one."""

    nodes: int
    gateways: tuple[str, ...]
    forming: int
    """Frames until it had formed."""
    frames: float
    """Of a node at rest in a second,"""
    bytes: float
    """and what they come to."""

    def text(self) -> str:
        """One line."""
        return (
            f"{self.nodes} nodes: gateway {', '.join(self.gateways)}; formed by {self.forming} frames;"
            f" at rest {self.frames:.1f} frames and {self.bytes:.0f} bytes a second from each node"
        )


class _Frames:
    """Counts frames and bytes that are sent."""

    def __init__(self) -> None:
        self.number = self.bytes = 0

    def counting(self, send: Callable[[VirtualLinks, int, Message], bool]) -> object:
        def counted(links: VirtualLinks, link: int, message: Message) -> bool:
            self.number += 1
            self.bytes += len(codec.encode(message))
            return send(links, link, message)

        return counted


def crowd(nodes: int = NODES) -> Crowd:
    """So many nodes and a cloud: they meet, write, and rest. AssertionError where they do not."""
    run = Run(1, options=Options(nodes, True, "mesh", 0.0, 0.0, 0.0, 0.001, 10, 0.2, 1, wild_clocks=False))
    run.network.weather = Weather(latency=0.001)
    frames = _Frames()
    with patch.object(VirtualLinks, "send", frames.counting(VirtualLinks.send)):
        for node in run.nodes:
            node.start()
        _until(run, lambda: not run.unsettled(), SETTLED_SECONDS)
        forming = frames.number
        for number in range(WRITES):
            run.clients[number % nodes].write_now(f"crowd{number}")
            run.world.run(WRITE_SECONDS)
        _until(run, lambda: all(_has_all(node) for node in run.lan), SPREAD_SECONDS)
        run.world.run(PASSED_SECONDS)
        before, told = frames.number, frames.bytes
        run.world.run(LOOK_SECONDS)
        seconds = nodes * LOOK_SECONDS
        rest = (frames.number - before) / seconds, (frames.bytes - told) / seconds
        gateways = {str((run._ask(node, "election") or {}).get("gateway")) for node in run.lan}
    assert run.unsettled() == ""
    assert run.finish().violations == []
    return Crowd(nodes, tuple(sorted(gateways)), forming, *rest)


def _has_all(node: SimulatedNode) -> bool:
    return all(node.store.known("users", f"crowd{number}") for number in range(WRITES))


def _until(run: Run, done: Callable[[], bool], seconds: float) -> None:
    end = run.world.time + seconds
    while not done():
        run.world.run(0.5)
        assert run.world.time < end, run.unsettled() or "not all have all"


if __name__ == "__main__":
    print(crowd(*map(int, sys.argv[1:])).text())
