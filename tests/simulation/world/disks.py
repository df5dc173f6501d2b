"""Disks that go back in time: a copy taken earlier is put in the place of what a node has now."""

from __future__ import annotations

from entgldb.actors.cluster_key import ClusterKeys
from entgldb.launch.testing.world import World
from tests.simulation.watch import oracle
from tests.simulation.watch.checks import Watch
from tests.simulation.world.node import SimulatedNode


class Disks:
    """One copy a node, at most."""

    def __init__(self, world: World, watch: Watch, *, whole: bool = False) -> None:
        """``whole``: it takes ``cluster.key`` back with it, which lies beside the database."""
        self._world = world
        self._watch = watch
        self._whole = whole
        self._images: dict[str, tuple[bytes, ClusterKeys | None]] = {}

    def copied(self, node: SimulatedNode) -> bool:
        """Whether there is a copy to put back."""
        return node.name in self._images

    def copy(self, node: SimulatedNode) -> None:
        """Keep what is committed now."""
        self._images[node.name] = node.image(), node.taken

    def put_back(self, node: SimulatedNode, *, told: bool) -> None:
        """The node is down; ``told``: its next start finds out by itself, by its fingerprint."""
        before = {row.operation.id for row in oracle.read_log(node.store.connection)}
        image, keys = self._images.pop(node.name)
        node.roll_back(image, told=told)
        if self._whole:
            self._world.reached["cluster key went back"] += node.taken != keys
            node.taken = keys
        after = oracle.read_log(node.store.connection)
        lost = before - {row.operation.id for row in after}
        self._world.reached["entries lost in a roll-back"] += bool(lost)
        self._watch.rolled_back(node, after, lost)
