"""A node joins while another is expelled, by a snapshot of any that it meets, one that has not heard, too."""

from __future__ import annotations

from random import Random

import pytest

from entgldb.launch.testing.shelf import SnapshotDisk
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair import beyond
from tests.simulation.events.times import MONTH_MS
from tests.simulation.run import Run
from tests.simulation.test_calm import quiet
from tests.simulation.test_expelling import TABLES, Expelling, know_clouds
from tests.simulation.world.node import SimulatedNode

RETENTION_HOURS = 0.0005
CLOUD_SEEDS, CLOUD = 3, 2
"""In such seeds there are clouds: one in odd ones, and two in even ones."""
STEP_MS = 29_000
"""Two clocks are never so far apart that anything is held."""


class Joining(Expelling):
    """Logs are pruned all the time, so that the newcomer has to take a snapshot.

    A document that stood below what is taken out comes back by verification, a conflict does not.
    """

    tables = TABLES[:1]

    def __init__(self, seed: int) -> None:
        run = Run(seed, options=quiet(6, cloud=seed % CLOUD_SEEDS == CLOUD))
        know_clouds(run)
        for node in run.lan:
            node.verify_interval = 5.0
        self.newcomer = run.lan.pop()
        run.nodes.remove(self.newcomer)
        self.late = run.clients.pop()
        self.anew = 0
        """How often it was made anew, as people do who see the alarm."""
        super().__init__(seed, run)
        for node in run.lan:
            node.forget_after(RETENTION_HOURS)

    def step_clocks(self) -> None:
        """Some go by steps meanwhile, and one was a month behind for a moment."""
        random, after = Random(f"clocks {self.seed}"), self.run.world.after
        for node in (*self.run.lan, self.newcomer):
            for _ in range(random.choice((0, 0, 2))):
                step = random.randint(-STEP_MS, STEP_MS)
                after(random.uniform(0.0, 8.0), setattr, node.clock, "offset_ms", step)
        if random.random() < 0.5:
            behind, at = random.choice(self.run.lan).clock, random.uniform(0.0, 4.0)
            after(at, setattr, behind, "offset_ms", -MONTH_MS)
            after(at + random.uniform(0.5, 4.0), setattr, behind, "offset_ms", 0)

    def play(self) -> None:
        run = self.run
        self.step_clocks()
        self.write(1.0)
        while not all(node.log.floors() for node in run.lan):
            run.world.run(0.5)
            assert run.world.time < 60
        run.lan.append(self.newcomer)
        self.cut()
        self.expel(self.judge, self.gone)
        if self.seed % 2:
            self.expel(self.gone, self.judge)
            self.pair.add(self.judge.name)
        self.write(self.random.uniform(0.0, 2.0))
        self.newcomer.forget_after(RETENTION_HOURS)
        self.newcomer.start()
        self.write(3.0)
        run.clients.append(self.late)
        self.write(1.0)
        self.heal()

    def waits(self) -> tuple[float, float]:
        # a snapshot tells the newcomer, and its pieces may be lost
        self.back_at.pop(self.newcomer.name, None)
        return super().waits()

    def differs(self) -> str:
        alarmed = [node for node in self.left() if beyond.alarms(node.store.connection, node.store.state)]
        for node in alarmed:
            make_anew(node)
        self.anew += len(alarmed)
        return "nodes are made anew" if alarmed else super().differs()


def make_anew(node: SimulatedNode) -> None:
    """The same machine with an empty disk."""
    node.crash()
    node.store = node.kind.memory(
        node.name, node.world.random.randbytes(32), node.clock.now_ms(), node._attest
    )
    node.log, node.snapshots = LogReader(node.store.connection), SnapshotDisk()
    node.start()


@pytest.mark.parametrize("seed", [1, 5])
def test_all_that_stay_agree_with_one_that_has_joined_meanwhile(seed: int) -> None:
    history = Joining(seed)
    history.play()
    assert history.anew or seed == 1
    history.run.close()
