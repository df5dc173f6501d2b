"""A node that was away comes back, with writes of its own, to others that have forgotten what it lacks.

The others have pruned their logs, some of them the tombstones too. While it takes a snapshot, links break,
actors die, the power goes in the midst of the merge, disks are full. In the end all must show what a fold of
all entries that ever were says, less those that were issued again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from unittest.mock import patch

from entgldb.launch.testing.world import World, no_collector
from entgldb.messages.errors import Reason
from entgldb.messages.local.members import Collected
from entgldb.storage.log.recorded import is_partial
from entgldb.storage.rules.comparing import chunks
from tests.simulation.events import operators, times
from tests.simulation.events.rewind import Rewind
from tests.simulation.events.tallies import KEYS, TALLIES
from tests.simulation.run import Result, Run
from tests.simulation.watch import checks, oracle, tallies
from tests.simulation.watch.patience import HEAL_SECONDS_MAX
from tests.simulation.watch.union import Union
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import Options

CHUNK_BYTES = 250
"""So small that a snapshot of some dozen documents has many chunks."""
LARGE_SEEDS = 8
"""Of so many seeds one has documents of some hundred kilobytes, which merge and grow large together,"""
LARGE_CHUNK_BYTES = 64 * 1024
"""and chunks that they span."""
TROUBLE_SECONDS = 9.0
RETENTION_SEEDS = 2
"""Every second seed forgets by production's own retention, once the node that is away counts as absent."""
RETENTION_HOURS, ABSENCE_HOURS = 0.0005, 0.0125
"""Members say every 30 s what they have: absence is more than that."""
FORGETTING_SECONDS_MAX = 150.0
PICKY_SEEDS = 3
"""Of so many seeds one has a node that cannot apply all that the others write."""
DELETING_SEEDS = 6
"""Every sixth seed deletes, last before the others forget,"""
PATIENCE_SECONDS = 30.0
"""So long after all is well nobody looks after what is in quarantine."""
FORK_PATIENCE = 4
UNSEEN = ("unseen0", "unseen1", "unseen2")
"""these, which the node that is away still has."""
BAD_TIMES_SEEDS, BAD_TIMES = 8, (1, 5, 6)
"""Of so many seeds these set clocks back by a month, or to 1970, while the node comes back: with production's
own retention and without."""
EXPIRING_SEEDS, EXPIRING = 8, 4
"""Of so many seeds one has documents that expire while clocks are right, and production's own retention: to
forget what somebody lacks would show what he wrote before it."""


class AwayRun(Run):
    """One seed of it."""

    def __init__(self, seed: int) -> None:
        with patch.object(checks, "Watch", Union):
            super().__init__(seed, options=_options(seed))
        assert isinstance(self.watch, Union)
        self.watch.nodes = self.nodes
        self.away = self.lan[0]
        self.rewind = Rewind(self.world, self.watch, self.away, self.clients[0])
        # a disk that goes back loses deletes of which its node has said that it has them
        self.watch.collecting = seed % RETENTION_SEEDS == 0 and not self.rewind.happens
        self._is_back = False
        self._back_at = 0.0
        self.large = seed % LARGE_SEEDS == 5
        self._deletes = seed % DELETING_SEEDS == 5
        for node in self.nodes:
            node.picky = False
        for client in self.clients:
            client.expires |= seed % EXPIRING_SEEDS == EXPIRING
            client.conditional &= not client.expires
            client.unfit = seed % PICKY_SEEDS == 0
            client.large = self.large
        if seed % PICKY_SEEDS == 0:
            self.world.random.choice(self.lan).picky = True

    def whole(self) -> Result:
        """Together, apart, back, checked."""
        with patch.object(chunks, "CHUNK_BYTES_MAX", LARGE_CHUNK_BYTES if self.large else CHUNK_BYTES):
            self._together()
            self._apart()
            self._back()
            # of a fork the branches are gone back one by one, until they meet
            patience = FORK_PATIENCE if self.rewind.happens else 1
            healed_in = self._settled(self.nodes, patience * HEAL_SECONDS_MAX)
        return self.finish(healed_in)

    def finish(self, healed_in: float = 0.0) -> Result:
        with patch.object(checks, "final", self._final):
            return super().finish(healed_in)

    def _together(self) -> None:
        for node, client in zip(self.nodes, self.clients, strict=True):
            node.start()
            client.begin()
        if self.cloud is not None:
            self._add_peer()
        if self.world.seed % 8 == 3 or self.large:
            # in other seeds documents merge only where a conflict was settled
            self.world.after(1.0, self.clients[0].set_rule, "merge")
        if self.clients[0].counts:
            self.world.after(0.3, self.clients[0].set_rule, "merge", TALLIES)
        if self._deletes:
            self.world.after(2.0, self._once_free, self.clients[1].write_now)
        self.rewind.together()
        self.world.run(5.0)

    def _apart(self) -> None:
        """The others go on, agree, and forget."""
        # what is issued again and others do not have is written whole, which ends the runs of its counters
        everywhere = [key for key in KEYS if all(node.store.get(TALLIES, key) for node in self.nodes)]
        for client in self.clients:
            client.tallies, client.counts = everywhere, client.counts and bool(everywhere)
        others = [node for node in self.nodes if node is not self.away]
        # by the cloud it goes on to hear of others' configuration: headers, which it can only record
        by_cloud = self.cloud is not None and self.world.seed % RETENTION_SEEDS == 1
        names = {node.name for node in others if node is not self.cloud or not by_cloud}
        if by_cloud:
            self.world.after(3.0, self.clients[1].set_rule, "merge" if self.clients[1].merges else "lww")
        self.network.cuts |= {(self.away.name, name) for name in names}
        self.network.cuts |= {(name, self.away.name) for name in names}
        if self.world.random.random() < 0.3:
            self.world.after(self.world.random.uniform(0.5, 3.0), self.away.crash)
        self.rewind.apart()
        self.world.run(6.0)
        if self._deletes:
            self._once_free(self.clients[1].delete_now)
            self.world.run(0.5)
        for node, client in zip(self.nodes, self.clients, strict=True):
            client.stopped = node is not self.away
        self._settled(others, 60.0)
        if self.world.seed % RETENTION_SEEDS == 0:
            self._forget_in_time(others)
        else:
            for node in others:
                _forget(node, tombstones=self.world.random.random() < 0.6 or self._deletes)
        for client in self.clients:
            if client.stopped:
                client.stopped = False
                client.begin()
        self.world.run(self.world.random.uniform(0.0, 2.0))

    def _once_free(self, act: Callable[..., None]) -> None:
        """Have the second client write, or delete, the documents that nobody else ever writes."""
        if self.clients[1].waiting or not self.nodes[1].up:
            self.world.after(0.01, self._once_free, act)
        else:
            act(*UNSEEN)

    def _forget_in_time(self, others: list[SimulatedNode]) -> None:
        """Until at least one of them has nothing left of what it had when the forgetting began."""
        wanted = {node.name: node.log.vector() for node in others}
        # minutes pass, in which it would write a thousand times
        self.clients[0].stopped = True
        for node in others:
            node.forget_after(RETENTION_HOURS, ABSENCE_HOURS)
        began = self.world.time
        while self.world.time - began < FORGETTING_SECONDS_MAX:
            self.world.run(1.0)
            for node in others:
                floors = node.log.floors()
                if all(floors.get(origin, 0) >= seq for origin, (seq, _) in wanted[node.name].items()):
                    self.world.reached["forgotten in time"] += 1
                    return
        self.world.violate("nothing was forgotten in time")

    def _back(self) -> None:
        self.network.cuts.clear()
        self.away.start()
        options = self.options
        self.network.weather = options.weather()
        bad = times.Times(self.world, self.nodes, self.faults._restart)
        bad_times = (bad.back, bad.boot) if self.world.seed % BAD_TIMES_SEEDS in BAD_TIMES else ()
        for client in self.clients:
            client.wild_clocks = bool(bad_times)
        end = self.world.time + TROUBLE_SECONDS
        while self.world.time < end:
            self.world.run(self.world.random.expovariate(1 / 0.5))
            self.world.random.choice(
                (
                    self.faults.crash,
                    self.faults.kill_actor,
                    self.faults.reset_link,
                    self.faults.disk_full,
                    self._torn_merge,
                    self._kill_oplog,
                    *bad_times,
                )
            )()
        self.faults.heal()
        self._is_back, self._back_at = True, self.world.time
        for client in self.clients:
            client.stopped = True

    def _torn_merge(self) -> None:
        """The power of the node that came back goes around its next commit."""
        if self.away.up and not self.away.store.trap:
            self.away.store.trap = self.world.random.choice(("before", "after"))
            self.world.after(1.0, self.faults._restart, self.away)

    def _kill_oplog(self) -> None:
        """Of whoever gives or takes: what was frozen goes, what was staged stays."""
        concerned = [node for node in self.nodes if node.snapshots.frozen or node.snapshots.staged]
        node = self.world.random.choice(concerned or self.nodes)
        if node.host is not None and node.host.behaviour("oplog") is not None:
            node.host.kill("oplog")

    def _settled(self, nodes: list[SimulatedNode], seconds: float) -> float:
        """Wait until these have the same vector and clients their answers."""
        began, why = self.world.time, "?"
        while why and self.world.time - began < seconds:
            self.world.run(1.0)
            why = self._differ(nodes)
        if why:
            self.world.violate(f"not settled after {seconds:.0f} s: {why}")
        return self.world.time - began

    def _differ(self, nodes: list[SimulatedNode]) -> str:
        waiting = [c.node.name for c in self.clients if c.waiting and c.node in nodes]
        ahead = self.resets.unsettled(nodes)
        knows_peer = self._is_back or not self.rewind.happens
        # a cloud can be reset once it has heard how much of its log others have
        enabled = self.cloud is None or not knows_peer or bool(waiting) or self._peer_enabled()
        if ahead:
            return ahead
        if waiting:
            return f"{waiting} wait for an answer"
        if not enabled:
            return "the cloud peer is not enabled"
        if self._is_back and self.rewind.heal(nodes):
            return "a fork waits for a decision"
        vectors = {node.name: node.log.vector() for node in nodes}
        first = vectors[nodes[0].name]
        apart = [name for name, vector in vectors.items() if vector != first]
        if apart and self._is_back and self.world.time - self._back_at > PATIENCE_SECONDS:
            # who has entries in quarantine gives no snapshot: somebody looks after them at last
            operators.retry_unfit(nodes)
        if apart:
            return f"the vectors of {nodes[0].name} and {apart} differ"
        if self._is_back and operators.retry_unfit(nodes):
            return "entries are in quarantine"
        if self._is_back and any(node.store.next_expiry() for node in nodes):
            return "documents are still to expire"
        self.world.reached["recorded entry"] += bool(self.away.up and self.away.log.unapplied(1))
        nobody_vouches = self._nobody_vouches()
        if self._is_back and not nobody_vouches and len({_configuration(node) for node in self.lan}) > 1:
            # what a cloud's snapshot covers and has not is brought by the verification that follows it
            return "the configurations differ"
        partial = [node.name for node in self.lan if is_partial(node.store.connection)]
        if self._is_back and partial and not nobody_vouches:
            return f"{partial} lack configuration, and others have it"
        held = [
            node.name
            for node in nodes
            if node.log.held() or (node.role == "lan" and not nobody_vouches and node.log.unapplied(1))
        ]
        return f"{held} hold entries back, or lack some" if held else ""

    def _nobody_vouches(self) -> bool:
        """Whether all nodes of the LAN lack some of the configuration that their vectors cover."""
        return self._is_back and all(is_partial(node.store.connection) for node in self.lan)

    def _final(self, world: World, nodes: list[SimulatedNode], watch: Union, acks: object) -> None:
        lost = watch.decide(nodes[0].log.vector())
        # the other branch is not here yet when somebody decides: who has forgotten a delete shows what lost
        unsure = {one.place for one in lost} if self.world.reached["fork healed"] else set()
        nobody_vouches = self._nobody_vouches()
        for node in nodes:
            configured = node.role == "lan" and not nobody_vouches
            shown = [o for o in watch.union.values() if configured or not o.place[0].startswith("_")]
            # all moments have passed on all nodes
            wanted = oracle.fold(shown, sys.maxsize)
            found = oracle.read_state(node.store.connection, oracle.merged_places(shown))
            if not configured:
                found = found.without_configuration()
            live, there = _live(wanted), _live(found)
            unsure -= live.keys()
            for place in sorted((live.keys() | there.keys()) - unsure):
                if live.get(place) != there.get(place):
                    world.violate(f"{node.name}: {place} is {there.get(place)}, not {live.get(place)}")
            wrong = wanted.conflicts ^ found.conflicts
            unsure_here = unsure | watch.orphaned() | watch.orphaned_of(node)
            differ = sorted(one for one in wrong if one[0] not in unsure_here)
            if differ:
                world.violate(f"{node.name}: conflicts differ in {differ[:3]}")
        self._acknowledged(watch, lost)
        if not self.rewind.happens:
            # of a branch that goes what came of its increments is kept, beside what others made of the rest
            tallies.exact(world, nodes, watch.union, self.acks.increments)

    def _acknowledged(self, watch: Union, lost: list[oracle.Operation]) -> None:
        """Each acknowledged write is there: as it was written, or written again."""
        bodies = {one.body for one in watch.union.values()}
        lasts = {one.place: one for one in sorted(lost, key=lambda one: one.id[1])}
        for made, body in [*self.acks.writes.items(), *self._acks_after()]:
            text = None if body is None else body.decode()
            made_so = [one for one in lost if one.id == made and one.body == text]
            here = watch.union.get(made)
            kept = here and (made[0] not in watch.forked or here.body == text or here.op == oracle.MERGE)
            if kept or made in watch.excused:
                continue
            if made[0] in watch.forked:
                # of a branch that goes each key's last document stays, or is a conflict; a merge is in that
                if made_so and lasts[made_so[0].place] in made_so and text is not None and text not in bodies:
                    self.world.violate(f"the acknowledged write {made} is of a branch, and gone")
            elif made not in watch.dropped:
                self.world.violate(f"the acknowledged write {made} is nowhere")
            elif watch.dropped[made].op == oracle.MERGE:
                continue  # its change is one of the reissued ones, whose parents have new names
            elif text is not None and text not in bodies:
                self.world.violate(f"the acknowledged write {made} was not issued again")

    def _acks_after(self) -> Iterable[tuple[oracle.Id, bytes | None]]:
        return () if self.rewind.acks is None else self.rewind.acks.writes.items()


def _configuration(node: SimulatedNode) -> str:
    return str(
        node.store.connection.execute(
            "SELECT collection, key, hlc FROM _entgldb_documents"
            " WHERE body IS NOT NULL AND substr(collection, 1, 1) = '_' ORDER BY collection, key"
        ).fetchall()
    )


def _live(state: oracle.State) -> dict[oracle.Place, object]:
    """A tombstone is as good as none: it may have been collected."""
    return {place: found for place, found in state.documents.items() if found[1] is not None}


def _forget(node: SimulatedNode, *, tombstones: bool) -> None:
    """Do the work of retention once everybody who counts has everything.

    What may be collected the store itself decides: a row that has expired may hide what has not.
    """
    store = node.store
    if oracle.quarantined(store.connection):
        return
    with store.group():
        for origin, known in store.state.origins.items():
            store.state.raise_floor(origin, known.head.seq, known.head.hlc)
        store.connection.execute("DELETE FROM _entgldb_oplog")
        store.state.entries = 0
        store.state.pruned_lsn = store.state.lsn
        frontier = {origin: known.head.seq for origin, known in store.state.origins.items()}
        done = Collected(0, 0, more=tombstones)
        while done.more:
            done = store.collect(frontier, done.after_lsn)


def _options(seed: int) -> Options:
    """Fewer keys than writes, so that deletes, rivals and returns meet."""
    from random import Random

    random = Random(seed)
    cloud = random.random() < 0.4
    return Options(
        2 if cloud else 3,
        cloud,
        "mesh",
        random.choice((0.0, 0.05, 0.2)),
        random.choice((0.0, 0.1)),
        random.choice((0.0, 0.3)),
        random.choice((0.001, 0.05)),
        random.choice((3, 10, 60)),
        0.25,
        random.choice((1, 100)),
        wild_clocks=False,
    )


REACHED = (
    "snapshot installed",
    "snapshot resumed",
    "tail re-issued",
    "forgotten in time",
    "large row",
    "document expired",
)
COUNTED = (Reason.BEHIND_SNAPSHOT.value, Reason.SNAPSHOT_GONE.value)


def run(seed: int) -> Result:
    """Live through one seed."""
    with no_collector():
        return AwayRun(seed).whole()
