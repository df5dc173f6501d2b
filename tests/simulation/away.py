"""A node that was away comes back, with writes of its own, to others that have forgotten what it lacks.

The others have pruned their logs, some of them the tombstones too. While it takes a snapshot, links break,
actors die, the power goes in the midst of the merge, disks are full. In the end all must show what a fold of
all entries that ever were says, less those that were issued again.
"""

from __future__ import annotations

from unittest.mock import patch

from entgldb.messages.errors import Reason
from entgldb.storage.rules import chunks
from tests.simulation import checks, oracle
from tests.simulation.network import Weather
from tests.simulation.node import SimulatedNode
from tests.simulation.options import Options
from tests.simulation.run import HEAL_SECONDS_MAX, Result, Run
from tests.simulation.world import World

CHUNK_BYTES = 250
"""So small that a snapshot of some dozen documents has many chunks."""
TROUBLE_SECONDS = 9.0


class Union(checks.Watch):
    """All entries that ever were, less what its writer has issued again."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.nodes: list[SimulatedNode] = []
        self.dropped: dict[oracle.Id, oracle.Operation] = {}
        self._origins: dict[str, str] = {}
        self._seen: dict[str, dict[str, int]] = {}

    def look(self, node: SimulatedNode) -> None:
        rows = oracle.read_log(node.store.connection, self._read.get(node.name, 0))
        for row in rows:
            self._read[node.name] = row.lsn
            known = self.union.setdefault(row.operation.id, row.operation)
            if known.body is None and row.operation.body is not None:
                self.union[row.operation.id] = row.operation
        vector = {origin: seq for origin, (seq, _) in node.log.vector().items()}
        before = self._seen.get(node.name, {})
        logged = {row.operation.id for row in rows}
        jumped = [o for o, seq in vector.items() if seq > before.get(o, 0) and (o, seq) not in logged]
        self.world.reached["snapshot installed"] += bool(jumped)
        self._seen[node.name] = vector
        old = self._origins.setdefault(node.name, node.origin)
        if old != node.origin:
            self._origins[node.name] = node.origin
            self._reborn(old)

    def _reborn(self, old: str) -> None:
        self.world.reached["tail re-issued"] += 1
        most = max(node.log.vector().get(old, (0, b""))[0] for node in self.nodes)
        for made in [made for made in self.union if made[0] == old and made[1] > most]:
            self.dropped[made] = self.union.pop(made)

    def restarted(self, node: SimulatedNode) -> None:
        """A part of the log is gone: it cannot be compared with the documents."""


class AwayRun(Run):
    """One seed of it."""

    def __init__(self, seed: int) -> None:
        with patch.object(checks, "Watch", Union):
            super().__init__(seed, options=_options(seed))
        assert isinstance(self.watch, Union)
        self.watch.nodes = self.nodes
        self.away = self.lan[0]
        for node in self.nodes:
            node.picky = False

    def whole(self) -> Result:
        """Together, apart, back, checked."""
        with patch.object(chunks, "CHUNK_BYTES_MAX", CHUNK_BYTES):
            self._together()
            self._apart()
            self._back()
            healed_in = self._settled(self.nodes, HEAL_SECONDS_MAX)
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
        if self.world.seed % 8 == 3:
            # in other seeds documents merge only where a conflict was settled
            self.world.after(1.0, self.clients[0].set_rule, "merge")
        self.world.run(5.0)

    def _apart(self) -> None:
        """The others go on, agree, and forget."""
        others = [node for node in self.nodes if node is not self.away]
        names = {node.name for node in others}
        self.network.cuts |= {(self.away.name, name) for name in names}
        self.network.cuts |= {(name, self.away.name) for name in names}
        if self.world.random.random() < 0.3:
            self.world.after(self.world.random.uniform(0.5, 3.0), self.away.crash)
        self.world.run(6.0)
        for node, client in zip(self.nodes, self.clients, strict=True):
            client.stopped = node is not self.away
        self._settled(others, 60.0)
        for node in others:
            _forget(node, tombstones=self.world.random.random() < 0.6)
        for node, client in zip(self.nodes, self.clients, strict=True):
            if node is not self.away:
                client.stopped = False
                client.begin()
        self.world.run(self.world.random.uniform(0.0, 2.0))

    def _back(self) -> None:
        self.network.cuts.clear()
        self.away.start()
        options = self.options
        self.network.weather = Weather(options.loss, options.duplication, options.reordering, options.latency)
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
                )
            )()
        self.faults.heal()
        for client in self.clients:
            client.stopped = True

    def _torn_merge(self) -> None:
        """The power of the node that came back goes around its next commit."""
        if self.away.up and not self.away.store.trap:
            self.away.store.trap = self.world.random.choice(("before", "after"))
            self.world.after(1.0, self.faults._restart, self.away)

    def _kill_oplog(self) -> None:
        """Of whoever gives or takes: what was frozen goes, what was staged stays."""
        node = self.world.random.choice(self.nodes)
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
        if waiting:
            return f"{waiting} wait for an answer"
        if self.cloud is not None and not self._peer_enabled():
            return "the cloud peer is not enabled"
        vectors = {node.name: node.log.vector() for node in nodes}
        first = vectors[nodes[0].name]
        apart = [name for name, vector in vectors.items() if vector != first]
        if apart:
            return f"the vectors of {nodes[0].name} and {apart} differ"
        held = [
            node.name for node in nodes if node.log.held() or (node.role == "lan" and node.log.unapplied(1))
        ]
        return f"{held} hold entries back, or lack some" if held else ""

    def _final(self, world: World, nodes: list[SimulatedNode], watch: Union, acks: object) -> None:
        exempt = any(checks.may_lack_parents(node) for node in nodes)
        for node in nodes:
            shown = [o for o in watch.union.values() if node.role == "lan" or not o.place[0].startswith("_")]
            wanted = oracle.fold(shown)
            found = oracle.read_state(node.store.connection, oracle.merged_places(shown))
            live, there = _live(wanted), _live(found)
            for place in sorted(live.keys() | there.keys()):
                if live.get(place) != there.get(place):
                    world.violate(f"{node.name}: {place} is {there.get(place)}, not {live.get(place)}")
            if not exempt and wanted.conflicts != found.conflicts:
                differ = sorted(wanted.conflicts ^ found.conflicts)[:3]
                world.violate(f"{node.name}: conflicts differ in {differ}")
        self._acknowledged(watch)

    def _acknowledged(self, watch: Union) -> None:
        """What was promised is there: as it was written, or written again."""
        bodies = {one.body for one in watch.union.values()}
        for made, body in self.acks.writes.items():
            if made in watch.union:
                continue
            if made not in watch.dropped:
                self.world.violate(f"the acknowledged write {made} is nowhere")
            elif watch.dropped[made].op == oracle.MERGE:
                continue  # its change is one of the reissued ones, whose parents have new names
            elif body is not None and body.decode() not in bodies:
                self.world.violate(f"the acknowledged write {made} was not issued again")


def _live(state: oracle.State) -> dict[oracle.Place, object]:
    """A tombstone is as good as none: it may have been collected."""
    return {place: found for place, found in state.documents.items() if found[1] is not None}


def _forget(node: SimulatedNode, *, tombstones: bool) -> None:
    """What retention does once everybody who counts has everything."""
    store = node.store
    with store.group():
        for origin, (seq, _) in store.vector().items():
            store.state.raise_floor(origin, seq)
        store.connection.execute("DELETE FROM _entgldb_oplog")
        store.state.entries = 0
        store.state.pruned_lsn = store.state.lsn
        if tombstones:
            latest, last = store.connection.execute(
                "SELECT ifnull(max(hlc), 0), ifnull(max(lsn), 0) FROM _entgldb_documents"
                " WHERE body IS NULL AND substr(collection, 1, 1) <> '_'"
            ).fetchone()
            store.state.collected_hlc = max(store.state.collected_hlc, latest)
            store.state.collected_lsn = max(store.state.collected_lsn, last)
            store.connection.execute(
                "DELETE FROM _entgldb_documents WHERE body IS NULL AND substr(collection, 1, 1) <> '_'"
            )


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


REACHED = ("snapshot installed", "snapshot resumed", "tail re-issued")
COUNTED = (Reason.BEHIND_SNAPSHOT.value, Reason.SNAPSHOT_GONE.value)


def run(seed: int) -> Result:
    """Live through one seed."""
    return AwayRun(seed).whole()
