"""The decisions of people about entries that their nodes hold back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from entgldb.messages.client import ReleaseOrigin, SettleUnfit
from entgldb.messages.schema import Message
from entgldb.storage.log import held, unfit
from tests.simulation.world.node import SimulatedNode


class Nobody:
    """Asks, and does not wait for the answer."""

    def answer(self, message: Message) -> None:
        pass


def retry_unfit(nodes: Sequence[SimulatedNode]) -> int:
    """Every node has been updated: have it apply what it could not before; how many there were."""
    left = 0
    for node in nodes:
        node.picky = node.store.picky = False
        for one in unfit.list_unfit(node.store.connection):
            left += 1
            node.ask("store", SettleUnfit(one.version.origin, one.version.seq, retry=True), Nobody())
    return left


def release_held(node: SimulatedNode) -> bool:
    """Somebody accepts what a clock far ahead has stamped; whether there was anything."""
    waiting = held.list_held(node.store.connection)
    return bool(waiting) and node.ask("store", ReleaseOrigin(waiting[0].origin), Nobody())


DAY_MS: Final = 24 * 3_600_000


def release_all(nodes: Sequence[SimulatedNode]) -> int:
    """Every node accepts what has been stamped ahead; how much there was."""
    waiting = [(node, one.origin) for node in nodes for one in held.list_held(node.store.connection)]
    return sum(node.ask("store", ReleaseOrigin(origin), Nobody()) for node, origin in waiting)


def release_former(nodes: Sequence[SimulatedNode]) -> int:
    """Every node accepts what was stamped far ahead in logs that end nowhere and have no writer any more."""
    settled = {node.store.origin for node in nodes if node.up}
    settled |= {origin for node in nodes if node.up for origin in node.store.state.ended}
    waiting = [
        (node, one.origin)
        for node in nodes
        for one in held.list_held(node.store.connection)
        if one.origin not in settled and one.first_due_ms > node.clock.now_ms() + DAY_MS
    ]
    return sum(node.ask("store", ReleaseOrigin(origin), Nobody()) for node, origin in waiting)
