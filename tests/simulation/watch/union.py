"""The watch over nodes of which one comes back to others that have forgotten: all entries that ever were."""

from __future__ import annotations

from hashlib import sha256

from entgldb.launch.testing.world import World
from tests.simulation.watch import checks, oracle
from tests.simulation.watch.oracle import Id, Logged, Operation, Place
from tests.simulation.world.node import SimulatedNode


class Union(checks.Watch):
    """All entries that ever were, less what its writer has issued again."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.nodes: list[SimulatedNode] = []
        self.dropped: dict[Id, Operation] = {}
        self._origins: dict[str, str] = {}
        self._seen: dict[str, dict[str, int]] = {}
        self._ended: set[str] = set()
        """Origins whose writer goes on under another name: their ends are with nobody else."""
        self._ends: dict[str, int] = {}
        """Origin -> behind which seq its writer has written all again."""
        self.forked: set[str] = set()
        """Origins whose writer went back in time and was not told: their logs may have two branches."""
        self.collecting = True
        """Nodes decide themselves which tombstones go."""
        self._lost: dict[str, set[Id]] = {}
        """The entries that a node had, and may have acknowledged, before its disk went back."""
        self._branches: dict[bytes, Operation] = {}
        """Hash -> entry, of those."""

    def look(self, node: SimulatedNode) -> None:
        if node.store.connection.in_transaction:
            self.world.violate(f"{node.name} flushed and left a transaction open")
            return
        rows = oracle.read_log(node.store.connection, self._read.get(node.name, 0))
        vector = {origin: seq for origin, (seq, _) in node.log.vector().items()}
        before = self._seen.get(node.name, {})
        for row in rows:
            self._read[node.name] = row.lsn
            if row.operation.id[1] > self._ends.get(row.operation.id[0], row.operation.id[1]):
                # on its way when the log ended: it goes again as soon as that comes here
                self.dropped.setdefault(row.operation.id, row.operation)
                continue
            known = self.union.setdefault(row.operation.id, row.operation)
            if row.operation.id[0] in self.forked:
                self._branch(row.operation)
                continue
            if known.body is None and row.operation.body is not None:
                self.union[row.operation.id] = row.operation
            self._linked(node, row.operation)
            self._caused(node, row.operation, vector, before)
        self._orphan(node, rows, before)
        self._end(node)
        self._quarantine_is_spared(node, node.log.floors())
        self._known_everywhere(node)
        self._count_expired(node)
        logged = {row.operation.id for row in rows}
        jumped = [o for o, seq in vector.items() if seq > before.get(o, 0) and (o, seq) not in logged]
        self.world.reached["snapshot installed"] += bool(jumped)
        self._seen[node.name] = vector
        old = self._origins.setdefault(node.name, node.origin)
        if old != node.origin:
            self._origins[node.name] = node.origin
            self._reborn(old)

    def _known_everywhere(self, node: SimulatedNode) -> None:
        """A tombstone is collected when all nodes have the delete, the one that is away, too."""
        before, now = self._tombstones.get(node.name, {}), oracle.tombstones(node.store.connection)
        self._tombstones[node.name] = now
        collected, last = node.store.state.collected_lsn, self._collected.get(node.name, 0)
        self._collected[node.name] = collected
        if not self.collecting or collected <= last:
            return
        self.world.reached["tombstone collected"] += 1
        gone = {place: made for place, made in before.items() if place not in now}
        for place in set(gone) - oracle.places(node.store.connection, gone):
            origin, seq = gone[place]
            lacking = [
                other.name
                for other in self.nodes
                if other.log.vector().get(origin, (0, b""))[0] < seq
                if (origin, seq) not in self._lost.get(other.name, ())
            ]
            if lacking and origin not in self._ended:
                self.world.violate(f"{node.name} has collected {place}, {origin} {seq}; {lacking} lack it")

    def rolled_back(self, node: SimulatedNode, log: list[Logged], lost: set[Id]) -> None:
        """The disk of a node has gone back in time; what nobody else has is not asked for any more."""
        self._read[node.name] = log[-1].lsn if log else 0
        self._seen[node.name] = {origin: seq for origin, (seq, _) in node.log.vector().items()}
        self._lost.setdefault(node.name, set()).update(lost)
        there = [{o: seq for o, (seq, _) in other.log.vector().items()} for other in self.nodes]
        for made in lost:
            if all(vector.get(made[0], 0) < made[1] for vector in there):
                self.union.pop(made, None)
                self.excused.add(made)

    def fork(self, origin: str) -> None:
        """The writer of this log went back in time, and goes on before it hears of it."""
        self.forked.add(origin)
        self._ended.add(origin)
        for one in [one for one in self.union.values() if one.id[0] == origin]:
            self._branch(one)

    def branch_of(self, digest: bytes) -> list[Operation]:
        """The entries up to one of a forked log, the newest first."""
        found = []
        while digest and digest in self._branches:
            found.append(self._branches[digest])
            digest = found[-1].previous
        return found

    def decide(self, heads: dict[str, tuple[int, bytes]]) -> list[Operation]:
        """All have ``heads``: the union has that branch of each log; the entries of the others."""
        others = []
        for origin in self.forked:
            kept = self.branch_of(heads.get(origin, (0, b""))[1])
            if len(kept) != heads.get(origin, (0, b""))[0]:
                self.world.violate(f"the log of {origin} ends with what nobody ever wrote")
            for made in [made for made in self.union if made[0] == origin]:
                del self.union[made]
            self.union |= {one.id: one for one in kept}
            digests = {one.hash for one in kept}
            others += [
                one for one in self._branches.values() if one.id[0] == origin and one.hash not in digests
            ]
        return others

    def orphaned_of(self, node: SimulatedNode) -> set[Place]:
        """Places where it took an entry before the one that this replaces, which is of a forked log."""
        return self._orphaned.get(node.name, set())

    def orphaned(self) -> set[Place]:
        """Places where an entry names what went with a branch: who lacks that keeps no conflict."""
        return {
            one.place
            for one in self.union.values()
            for named in (one.parent, *one.seen)
            if named is not None and named[0] in self.forked
            if named not in self.union or self.union[named].place != one.place
        }

    def _branch(self, one: Operation) -> None:
        if one.previous and one.previous not in self._branches:
            self.world.violate(f"{one.id} follows on what nobody ever wrote")
        if self._branches.setdefault(one.hash, one).body is None:
            self._branches[one.hash] = one

    def _linked(self, node: SimulatedNode, one: Operation) -> None:
        """Each logged entry follows on the entry that stands before it in any log."""
        (origin, seq), known = one.id, self.union[one.id]
        if known.header != one.header:
            self.world.violate(f"{node.name}: another entry at {one.id}")
        before = self.union.get((origin, seq - 1)) or self.dropped.get((origin, seq - 1))
        if before is None and seq > 1:
            self.world.violate(f"{node.name}: {one.id} stands after what nobody ever had")
        if before is not None and (one.previous != before.hash or one.hlc <= before.hlc):
            self.world.violate(f"{node.name}: {one.id} does not follow on the one before")
        if one.body is not None and sha256(one.body.encode()).digest() != one.body_sha256:
            self.world.violate(f"{node.name}: the body of {one.id} is not the one its header names")

    def _caused(
        self, node: SimulatedNode, one: Operation, vector: dict[str, int], before: dict[str, int]
    ) -> None:
        """Each entry that the writer had seen is here, in the log or by a snapshot."""
        origin, seq = one.id
        if origin == node.origin and one.id not in self._causes:
            # of what was issued again, the log that it stood in has an end that nobody else ever gets
            own = {o: n for o, n in before.items() if o not in self._ended}
            self._causes[one.id] = {**own, origin: seq - 1}
            return
        needs = self._causes.get(one.id, {}).items()
        lacking = [o for o, need in needs if vector.get(o, 0) < need and o not in self._ended]
        if lacking:
            self.world.violate(f"{node.name}: {one.id} is here before its cause from {lacking}")

    def _orphan(self, node: SimulatedNode, rows: list[Logged], before: dict[str, int]) -> None:
        """Note what is behind a quarantined log: nobody can tell there what is concurrent."""
        seen = dict(before)
        for one in (row.operation for row in rows):
            named = [version for version in (one.parent, *one.seen) if version is not None]
            if any(origin in self.forked and seen.get(origin, 0) < seq for origin, seq in named):
                self._orphaned.setdefault(node.name, set()).add(one.place)
            seen[one.id[0]] = one.id[1]

    def _reborn(self, old: str) -> None:
        self.world.reached["tail re-issued"] += 1
        if old in self.forked:
            return  # which of its branches stays is decided at the end
        self._ended.add(old)
        most = max(node.log.vector().get(old, (0, b""))[0] for node in self.nodes)
        for made in [made for made in self.union if made[0] == old and made[1] > most]:
            self.dropped[made] = self.union.pop(made)

    def _end(self, node: SimulatedNode) -> None:
        """Of a log that its writer has ended, all behind the end is written again elsewhere."""
        for origin, seq in node.store.state.ended.items() - self._ends.items():
            self._ends[origin] = seq
            self._ended.add(origin)
            for made in [made for made in self.union if made[0] == origin and made[1] > seq]:
                self.dropped[made] = self.union.pop(made)

    def restarted(self, node: SimulatedNode) -> None:
        """A part of the log is gone: it cannot be compared with the documents."""
