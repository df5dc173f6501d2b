"""The decisions of people about entries that their nodes hold back."""

from __future__ import annotations

from collections.abc import Sequence

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
