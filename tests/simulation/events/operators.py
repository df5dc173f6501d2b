"""The decisions of people about entries that their nodes hold back."""

from __future__ import annotations

from collections.abc import Sequence, Set

from entgldb.messages.client import ReleaseOrigin, SettleUnfit
from entgldb.messages.model import node_of
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


def release_all(nodes: Sequence[SimulatedNode], writers: Set[str] | None = None) -> int:
    """Every node accepts what these writers, or all, have stamped ahead; how much there was."""
    found = 0
    for node in nodes:
        for one in held.list_held(node.store.connection):
            if writers is None or node_of(one.origin) in writers:
                found += node.ask("store", ReleaseOrigin(one.origin), Nobody())
    return found
