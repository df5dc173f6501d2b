"""The promises: ``Watch`` looks at every commit of every node, ``final`` at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Set
from hashlib import sha256

from entgldb.actors.session.staging import REFUSED_SECONDS
from entgldb.launch.testing.world import World
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import node_of
from entgldb.storage.rules.ended import any_log
from tests.simulation.events.clients import Acknowledged
from tests.simulation.events.edits import PROFILES
from tests.simulation.watch import oracle, tallies
from tests.simulation.watch.oracle import Id, Logged, Operation, Place, State
from tests.simulation.world.node import SimulatedNode

SYSTEM = "_system_"
COUNTER_BITS = 16
"""Of a hybrid clock, below its milliseconds."""


class Watch:
    """Reads what each node has just committed: chains, clocks, causes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.union: dict[Id, Operation] = {}
        """Every entry that any node has logged."""
        self._causes: dict[Id, dict[str, int]] = {}
        """Entry -> what its writer had in its log when it wrote it."""
        self._read: dict[str, int] = {}
        self._logs: dict[str, dict[Id, Logged]] = {}
        """Node -> all that it ever logged, what it has pruned since included."""
        self._floors: dict[str, dict[str, int]] = {}
        self._collected: dict[str, int] = {}
        self._tombstones: dict[str, dict[Place, Id]] = {}
        self.members: Callable[[], list[SimulatedNode]] = list
        """Those who count when something is to be forgotten."""
        self.rotates = False
        """Whether cluster keys change: a writer may be unknown whom only another one has attested."""
        self._heads: dict[str, dict[str, Operation]] = {}
        self._clocks: dict[str, int] = {}
        self._waiting: dict[str, set[str]] = {}
        self._conflicts: dict[str, int] = {}
        self._expired: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        """Logs that their own node has ended, and where."""
        self.written_again: dict[Id, Operation] = {}
        """Entries behind such an end."""
        self.excused: set[Id] = set()
        """Entries that some disk lost when it went back in time: who has none of them may do without."""
        self._held: dict[str, dict[str, int]] = {}
        """Node -> origin that it held back when it was looked at last -> newest seq of that."""
        self._early: set[tuple[Id, str]] = set()
        """(entry, origin): some node that held the origin back took the entry without its cause."""
        self._met: dict[tuple[str, str], float] = {}
        """Node and origin -> when the node had something of it for the first time."""
        self._orphaned: dict[str, set[Place]] = {}
        """Node -> places where it took an entry before the one that this replaces, or where what stood over a
        pruned version was taken out."""
        self._recorded: dict[str, set[Id]] = {}
        """Node of a LAN -> entries of which it had the header alone, from a cloud, at the last look."""

    def look(self, node: SimulatedNode) -> None:
        """A node has committed."""
        if node.store.connection.in_transaction:
            self.world.violate(f"{node.name} flushed and left a transaction open")
            return
        held = node.store.held()
        self._count_branches(node, set(held))
        rows = oracle.read_log(node.store.connection, self._read.get(node.name, 0))
        self._goes_back(node, rows)
        if node.role == "lan":
            waits = {row.operation.id for row in rows if not row.applied}
            self._recorded[node.name] = self._recorded.get(node.name, set()) | waits
        for row in rows:
            self._read[node.name] = row.lsn
            self._logs.setdefault(node.name, {})[row.operation.id] = row
            self._chain(node, row)
            self._parent(node, row)
            self._cause(node, row, {*held, *self._held.get(node.name, {})})
        self._held[node.name] = held
        recorded = self._recorded.get(node.name)
        if recorded:
            self._recorded[node.name] = recorded & oracle.recorded(node.store.connection)
        self._forgets(node)

    def log(self, node: SimulatedNode) -> list[Logged]:
        """All that a node has logged, in its order: what it has now, and what it has pruned."""
        now = {row.operation.id: row for row in oracle.read_log(node.store.connection)}
        before = self._logs.get(node.name, {})
        floors = node.log.floors()
        pruned = [
            row._replace(operation=self.union[made], applied=True) if node.role == "lan" else row
            for made, row in before.items()
            if made not in now and made[1] <= floors.get(made[0], 0)
        ]
        return sorted([*pruned, *now.values()], key=lambda row: row.lsn)

    def _forgets(self, node: SimulatedNode) -> None:
        """Everybody who counts had each pruned entry."""
        floors = node.log.floors()
        if floors != self._floors.get(node.name, {}):
            self._floors[node.name] = floors
            self.world.reached["log pruned"] += 1
            for other in self.members():
                ahead = [o for o, seq in floors.items() if not self._has(other, o, seq)]
                if ahead:
                    self.world.violate(f"{node.name} has pruned what {other.name} lacks of {ahead}")
        collected = node.store.state.collected_lsn
        if collected != self._collected.get(node.name, 0):
            self._collected[node.name] = collected
            self.world.reached["tombstone collected"] += 1
        self._quarantine_is_spared(node, floors)
        self._collects(node, floors)

    def _has(self, node: SimulatedNode, origin: str, seq: int) -> bool:
        """In its log, or among what a reset of its clock has put off: nobody needs to send that again."""
        head = self._heads.get(node.name, {}).get(origin)
        return max(head.id[1] if head else 0, self._held.get(node.name, {}).get(origin, 0)) >= seq

    def _quarantine_is_spared(self, node: SimulatedNode, floors: dict[str, int]) -> None:
        """An entry in quarantine, which is to be tried again, is still in the log, and so is all that
        follows it."""
        for origin, seq in oracle.quarantined(node.store.connection):
            self.world.reached["pruned beside quarantine"] += bool(floors)
            if seq <= floors.get(origin, 0):
                self.world.violate(f"{node.name} has pruned {origin} {seq}, which is in quarantine")

    def _collects(self, node: SimulatedNode, floors: dict[str, int]) -> None:
        """A tombstone that goes is pruned, known to all who count, and could meet nothing in quarantine."""
        connection = node.store.connection
        before, now = self._tombstones.get(node.name, {}), oracle.tombstones(connection)
        self._tombstones[node.name] = now
        gone = {place: id_ for place, id_ in before.items() if place not in now}
        for place in set(gone) - oracle.places(connection, gone):
            origin, seq = gone[place]
            lacking = [other.name for other in self.members() if not self._has(other, origin, seq)]
            if lacking or seq > floors.get(origin, 0) or place[0].startswith(SYSTEM):
                self.world.violate(f"{node.name} has collected {place}, {origin} {seq}; {lacking} lack it")
            if node.store.state.unfit:
                self.world.violate(f"{node.name} has collected {place} with entries in quarantine")

    def restarted(self, node: SimulatedNode) -> None:
        """A node's documents are what its own log says, whatever it was in the middle of."""
        log = self.log(node)
        applied = [row.operation for row in log if row.applied]
        connection = node.store.connection
        now_ms = oracle.time_of(connection, node.store.state.time_ms)
        found = oracle.read_state(connection, oracle.merged_places(applied), now_ms)
        wanted = without_collected(oracle.fold(applied, now_ms), found, node)
        # the version under an entry in quarantine is replaced only by a version after that entry
        unfit = {row.operation.place for row in log if not row.applied}
        but = unfit | oracle.still_to_hide(connection, now_ms)
        if self.promised(node, wanted, but) != self.promised(node, found, but):
            self.world.violate(f"{node.name}: the documents are not what its log says")

    def promised(self, node: SimulatedNode, state: State, but: Set[Place] = frozenset()) -> State:
        """``state`` without conflicts of places where the node took an entry before the one it replaces."""
        orphaned = self._orphaned.get(node.name, set()) | but
        return state._replace(conflicts={one for one in state.conflicts if one[0] not in orphaned})

    def _goes_back(self, node: SimulatedNode, rows: list[Logged]) -> None:
        """After ``clock --reset`` what was stamped ahead goes where it is written again, or to be held."""
        heads, log = self._heads.setdefault(node.name, {}), self._logs.setdefault(node.name, {})
        known, ended = node.store.state.origins, node.store.state.ended
        for origin, seq in ended.items():
            self.ends[origin] = min(seq, self.ends.get(origin, seq))
        # what was taken out may be back at the same look: a node that hung does all at once
        first = {row.operation.id[0]: row.operation.id[1] for row in reversed(rows)}
        went_back = False
        for origin, head in list(heads.items()):
            seq = known[origin].head.seq if origin in known else 0
            seq = min(seq, first.get(origin, head.id[1] + 1) - 1)
            if seq >= head.id[1]:
                continue
            end = node.store.state.end_of(origin)
            if seq < (head.id[1] if end is None else end) and not _is_ahead(node, head):
                self.world.violate(f"{node.name}: its log of {origin} went back from {head.id[1]} to {seq}")
                continue
            went_back = True
            self.world.reached["log went back"] += 1
            self.world.reached["entries of others put off"] += end is None
            heads.pop(origin)
            if (origin, seq) in log:
                heads[origin] = log[origin, seq].operation
            taken = [made for made in log if made[0] == origin and made[1] > seq]
            if end is not None:
                # it stood over a version that is pruned: nobody can list that here again
                places = {log[made].operation.place for made in taken} & self._pruned(node)
                self._orphaned.setdefault(node.name, set()).update(places)
            for made in taken:
                del log[made]
                # it may be held until its node has heard of the end
                if made[1] > self.end_of(*made) and made in self.union and not self.is_out(origin):
                    self.written_again[made] = self.union.pop(made)
        if went_back and node.store.state.clock < self._clocks.get(node.name, 0):
            # it was this node's own clock, and it goes on from the greatest stamp that is left
            self._clocks[node.name] = max((row.operation.hlc for row in log.values()), default=0)

    def _pruned(self, node: SimulatedNode) -> set[Place]:
        """The places of which a node has had an entry that it has pruned."""
        floors, log = node.log.floors(), self._logs.get(node.name, {})
        return {row.operation.place for made, row in log.items() if made[1] <= floors.get(made[0], 0)}

    def end_of(self, origin: str, seq: int) -> int:
        """Where a log ends; ``seq`` where it does not."""
        return self.ends.get(origin, self.ends.get(any_log(node_of(origin)), seq))

    def is_out(self, origin: str) -> bool:
        """Whether the writer of a log was expelled."""
        return any_log(node_of(origin)) in self.ends

    def rolled_back(self, node: SimulatedNode, log: list[Logged], lost: set[Id]) -> None:
        """The disk of a node has gone back in time; ``log`` is what it has now."""
        self.excused |= lost
        self._read[node.name] = log[-1].lsn if log else 0
        self._logs[node.name] = {row.operation.id: row for row in log}
        self._heads[node.name] = {row.operation.id[0]: row.operation for row in log}
        self._clocks[node.name] = max((row.operation.hlc for row in log), default=0)
        self._tombstones[node.name] = oracle.tombstones(node.store.connection)

    def lost(self, nodes: list[SimulatedNode]) -> set[Id]:
        """The entries that disks have lost, or others than ``nodes`` have written, and none of these has.

        Of the configuration that is lost a cloud may give headers back. Bodies of it no cloud has.
        """
        names = {node.name for node in nodes}
        there = {
            row.operation.id
            for node in nodes
            for row in self.log(node)
            if (row.applied and node.role == "lan") or not row.operation.place[0].startswith(SYSTEM)
        }
        return (self.excused | {made for made in self.union if node_of(made[0]) not in names}) - there

    def forget_lost(self, nodes: list[SimulatedNode], acks: Acknowledged) -> None:
        """Forget the entries that are lost: no check can ask for them."""
        for gone in self.lost(nodes):
            self.union.pop(gone, None)
            acks.lose(gone)

    def nothing_since(self, nodes: list[SimulatedNode]) -> None:
        """None of the nodes has anything that one has written since it was expelled."""
        there = {row.operation.id for node in nodes for row in self.log(node)}
        if late := [made for made in there if self.is_out(made[0]) and made[1] > self.end_of(*made)]:
            self.world.violate(f"{late[:3]} are there, written since their writer is out")

    def _count_branches(self, node: SimulatedNode, held: set[str]) -> None:
        reached = self.world.reached
        reached["held entry released"] += len(self._waiting.get(node.name, set()) - held)
        self._waiting[node.name] = held
        conflicts = oracle.count_conflicts(node.store.connection)
        before = self._conflicts.get(node.name, 0)
        reached["conflict row made"] += max(0, conflicts - before)
        reached["conflict row cleared"] += max(0, before - conflicts)
        self._conflicts[node.name] = conflicts
        self._count_expired(node)

    def _count_expired(self, node: SimulatedNode) -> None:
        expired = oracle.count_expired(node.store.connection)
        self.world.reached["document expired"] += max(0, expired - self._expired.get(node.name, 0))
        self._expired[node.name] = expired

    def _chain(self, node: SimulatedNode, row: Logged) -> None:
        one, (origin, seq) = row.operation, row.operation.id
        heads = self._heads.setdefault(node.name, {})
        before = heads.get(origin)
        if before is None:
            self._met.setdefault((node.name, origin), self.world.time)
        if seq != (1 if before is None else before.id[1] + 1):
            self.world.violate(f"{node.name}: {origin} {seq} follows {before and before.id[1]}")
        if one.previous != (b"" if before is None else before.hash):
            self.world.violate(f"{node.name}: the chain of {origin} breaks at {seq}")
        if before is not None and one.hlc <= before.hlc:
            self.world.violate(f"{node.name}: the clock of {origin} does not grow at {seq}")
        if one.body is not None and sha256(one.body.encode()).digest() != one.body_sha256:
            self.world.violate(f"{node.name}: the body of {one.id} is not the one its header names")
        known = self.union.setdefault(one.id, one)
        if known.header != one.header:
            self.world.violate(f"{node.name}: another entry at {one.id}")
        if known.body is None and one.body is not None:
            self.union[one.id] = one
        heads[origin] = one

    def _parent(self, node: SimulatedNode, row: Logged) -> None:
        """Note a place where an entry was applied before one that it replaces."""
        log, recorded = self._logs[node.name], self._recorded.get(node.name, set())
        if any(
            named is not None and (named not in log or named in recorded)
            for named in (row.operation.parent, *row.operation.seen)
        ):
            self._orphaned.setdefault(node.name, set()).add(row.operation.place)

    def _is_strange(self, node: SimulatedNode, origin: str) -> bool:
        """Whether a log may be refused as not-attested by a session, which looks again a while later."""
        met = self._met.get((node.name, origin), self.world.time)
        return node.log.author(origin) is None or self.world.time - met < REFUSED_SECONDS

    def _cause(self, node: SimulatedNode, row: Logged, held: set[str]) -> None:
        one, (origin, seq) = row.operation, row.operation.id
        seen = {o: head.id[1] for o, head in self._heads[node.name].items()}
        if origin == node.origin:
            self._causes[one.id] = {**seen, origin: seq - 1}
            if one.hlc <= self._clocks.get(node.name, 0):
                self.world.violate(f"{node.name}: {one.id} is stamped before what it had seen")
            # a node has not seen an entry that it only holds: a clock far ahead must not spread
            if one.hlc > max(self._clocks.get(node.name, 0) + 1, node.clock.highest_ms << COUNTER_BITS):
                self.world.violate(f"{node.name}: {one.id} is stamped after all it had seen")
        else:
            lacking = [
                o
                for o, need in self._causes.get(one.id, {}).items()
                if seen.get(o, 0) < min(need, self.end_of(o, need))
            ]
            # behind what it held back a node takes an effect early, and passes it on early
            unattested = {o for o in lacking if self.rotates and self._is_strange(node, o)}
            self._early |= {(one.id, o) for o in lacking if o in held or o in unattested}
            if any((one.id, o) not in self._early for o in lacking):
                self.world.violate(f"{node.name}: {one.id} is here before its cause from {lacking}")
        self._clocks[node.name] = max(one.hlc, self._clocks.get(node.name, 0))


def _is_ahead(node: SimulatedNode, one: Operation) -> bool:
    """Whether a node whose clock is right would hold an entry back."""
    return one.hlc >> COUNTER_BITS > node.clock.now_ms() + DRIFT_MS_MAX


def without_collected(wanted: State, found: State, node: SimulatedNode) -> State:
    """``wanted`` without the tombstones that a node has collected, and was allowed to."""
    floors = node.log.floors()
    gone = {
        place
        for place, ((origin, seq), body) in wanted.documents.items()
        if body is None
        and place not in found.documents
        and not place[0].startswith(SYSTEM)
        and seq <= floors.get(origin, 0)
    }
    kept = {place: document for place, document in wanted.documents.items() if place not in gone}
    return wanted._replace(documents=kept)


def final(world: World, nodes: list[SimulatedNode], watch: Watch, acks: Acknowledged) -> None:
    """All is healed and calm: everybody must have everything, and agree."""
    watch.nothing_since(nodes)
    watch.forget_lost(nodes, acks)
    _written_again(world, watch, acks)
    _once(world, watch)
    tallies.exact(world, nodes, watch.union, acks.increments)
    for node in nodes:
        log = watch.log(node)
        here = {row.operation.id: row for row in log}
        lacking = sorted(set(watch.union) - set(here))
        if lacking:
            world.violate(f"{node.name} lacks {len(lacking)} entries, such as {lacking[:3]}")
        _acknowledged(world, node, here, acks)
        _agreement(world, node, log, watch)
        _vector(world, node, here)


def _written_again(world: World, watch: Watch, acks: Acknowledged) -> None:
    """Each write that stood behind the end that a node gave its log stands in its next one."""
    bodies = {one.body for one in watch.union.values()}
    for made, one in watch.written_again.items():
        if made in acks.writes and one.op == oracle.PUT and one.body not in bodies:
            world.violate(f"the acknowledged write {made} was not written again")
        acks.forget(made)


def _once(world: World, watch: Watch) -> None:
    """Every body that a client made is unlike all others: twice in the logs is a request done twice."""
    seen: dict[str, Id] = {}
    for one in watch.union.values():
        # a disk that went back in time has forgotten which requests it had done
        if one.id not in watch.excused and one.body is not None and not one.place[0].startswith(SYSTEM):
            # two decisions on two nodes may look alike
            if one.op == oracle.MERGE or one.place[0] == PROFILES:
                continue
            first = seen.setdefault(one.body, one.id)
            if first != one.id:
                world.violate(f"one request was done twice, as {first} and as {one.id}")


def _acknowledged(world: World, node: SimulatedNode, here: dict[Id, Logged], acks: Acknowledged) -> None:
    for made, body in acks.writes.items():
        row = here.get(made)
        if row is None:
            world.violate(f"{node.name} lost the acknowledged write {made}")
        elif row.operation.op == oracle.MERGE:
            if acks.edits.get(made, "") not in (row.operation.body or ""):
                world.violate(f"{node.name}: the acknowledged change of {made} is gone")
        elif row.operation.body_sha256 != (b"" if body is None else sha256(body).digest()):
            world.violate(f"{node.name}: the acknowledged write {made} has another body")
        elif body is not None and row.operation.body != body.decode():
            world.violate(f"{node.name}: the body of the acknowledged write {made} is gone")
    for made in acks.decisions - here.keys():
        world.violate(f"{node.name} lost the acknowledged decision {made}")


def _agreement(world: World, node: SimulatedNode, log: list[Logged], watch: Watch) -> None:
    """Documents and conflicts are those of the oracle, which folds the union of all logs."""
    in_cloud = node.role == "cloud"
    if in_cloud and any(r.operation.body is not None for r in log if r.operation.place[0].startswith(SYSTEM)):
        world.violate(f"{node.name} has learned a cluster's configuration")
    union = [one for one in watch.union.values() if not in_cloud or not one.place[0].startswith(SYSTEM)]
    found = oracle.read_state(node.store.connection, oracle.merged_places(union))
    # all moments have passed on all nodes
    wanted = without_collected(oracle.fold(union, sys.maxsize), found, node)
    for place in sorted(wanted.documents.keys() | found.documents.keys()):
        if wanted.documents.get(place) != found.documents.get(place):
            there, here = wanted.documents.get(place), found.documents.get(place)
            world.violate(f"{node.name}: {place} is {here}, and should be {there}")
    listed, due = (watch.promised(node, state).conflicts for state in (found, wanted))
    if listed != due:
        extra, missing = listed - due, due - listed
        world.violate(f"{node.name}: conflicts too many {sorted(extra)[:2]}, missing {sorted(missing)[:2]}")


def _vector(world: World, node: SimulatedNode, here: dict[Id, Logged]) -> None:
    """The vector says what the log holds: the newest entry of each origin, and its hash."""
    wanted: dict[str, tuple[int, bytes]] = {}
    for (origin, seq), row in here.items():
        if seq > wanted.get(origin, (0, b""))[0]:
            wanted[origin] = (seq, row.operation.hash)
    if node.log.vector() != wanted:
        world.violate(f"{node.name}: the vector is not that of its log")
