"""Random histories with pruned logs, collected tombstones and absent nodes: in the end all are equal.

The test computes the state that all must agree on anew, from the union of all entries that ever were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random

import pytest

from entgldb.messages.client import FieldOperation, RequestId, Write
from entgldb.messages.model import Entry, Version
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.snapshot.steps import Steps
from entgldb.storage.store import Store
from tests.simulation.watch import oracle
from tests.support import postgres
from tests.support.merging import wrong_in_indexes
from tests.unit.storage.snapshot.snapshots import forget, in_steps, send

NOW = 1_790_000_000_000
NODES = 4
STEPS = 60
HISTORIES = int(os.environ.get("ENTGLDB_SNAPSHOT_HISTORIES", "20"))
"""Of each kind."""
IN_STEPS = 8
"""Histories of snapshots that are merged one key at a time: twenty transactions each."""
ON_POSTGRES = int(os.environ.get("ENTGLDB_POSTGRES_HISTORIES", "1"))
"""Histories of each rule whose nodes are tenants on PostgreSQL: four hundred transactions each."""
NEXT_RANGE = Steps._next_range


class History:
    """Some nodes, one of which may be away."""

    def __init__(self, seed: int, *, merging: bool = False, mixed: bool = False) -> None:
        """``mixed``: the rule changes all the time, and conflicts are settled."""
        self.merging = merging
        self.mixed = mixed
        self.random = Random(seed)
        self.now = NOW
        self.nodes = [Store.memory(f"n{i}", self.random.randbytes(32), NOW) for i in range(NODES)]
        self.away: int | None = None
        self.left_out: int | None = None
        """Was away while the others collected deletes: it may give nothing before it has a snapshot."""
        self.union: dict[oracle.Id, oracle.Operation] = {}
        if merging:
            for node in self.nodes:
                # nobody is told: what an entry means is said by itself
                node.state.merging.add("users")
        self.reissued = self.snapshots = self.number = self.between = 0
        self.shown: object = None
        """What the node that takes a snapshot showed after the step before."""
        self.sum = 0
        """Of all increments of a counter that nobody puts or deletes."""
        self.scattered = False
        """A part of what was issued again is with a node that was away, which nothing is promised of."""
        self.counts = merging and not mixed
        if self.counts:
            # all know of it: what is issued again and was unknown to others is written whole
            self.number, self.sum = 1, 1
            with self.nodes[0].group():
                self.nodes[0].write(RequestId(b"c" * 16, 1), [increment("sum", 1)], NOW)
            self.look(self.nodes[0])
            for index in range(1, NODES):
                self.sync(0, index)

    def step(self) -> None:
        random = self.random
        self.now += random.choice((0, 1, 50))
        kind = random.random()
        if kind < 0.5:
            self.write(random.randrange(NODES))
        elif kind < 0.8:
            one, two = random.sample(range(NODES), 2)
            self.sync(one, two)
        elif kind < 0.9:
            self.come_or_go()
        else:
            self.prune()

    def write(self, index: int) -> None:
        node, random = self.nodes[index], self.random
        self.number += 1
        if self.mixed:
            change = node.state.merging.add if random.random() < 0.3 else node.state.merging.discard
            change("users")
            if random.random() < 0.2 and self.settle(node):
                return
        writes = []
        for i in range(random.randint(1, 2)):
            key, body = f"k{random.randrange(4)}", None
            if "users" in node.state.merging and random.random() < 0.4:
                writes.append(self.operation(key))
                continue
            if random.random() > (0.15 if self.merging else 0.35):
                body = self.edited(node, key) if self.merging else b'{"n":%d}' % (self.number * 10 + i)
            writes.append(Write("users", key, body))
        with node.group():
            node.write(RequestId(b"c" * 16, self.number), writes, self.now)
        self.look(node)

    def operation(self, key: str) -> Write:
        random, amount = self.random, self.random.randint(-3, 9)
        if self.counts and random.random() < 0.3:
            self.sum += amount
            return increment("sum", amount)
        if random.random() < 0.5:
            return increment(key, amount)
        verb, element = random.choice(("add", "add", "remove")), json.dumps(random.choice(("p", "q", 1)))
        return Write("users", key, None, None, (FieldOperation(verb, ("s",), element.encode()),))

    def settle(self, node: Store) -> bool:
        """Decide about a conflict of this node, if it has one."""
        lost = node.connection.execute(
            "SELECT c.key, o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o"
            " ON o.id = c.origin ORDER BY c.hlc, o.name"
        ).fetchall()
        if lost:
            key, origin, seq = self.random.choice(lost)
            take = self.random.choice(("loser", "winner"))
            request = RequestId(b"c" * 16, self.number)
            with node.group():
                node.resolve(request, ("users", key), Version(origin, seq), take, None, self.now)
            self.look(node)
        return bool(lost)

    def edited(self, node: Store, key: str) -> bytes:
        """The node's document with a field or two changed, or gone."""
        random, found = self.random, node.get("users", key)
        document = {} if found is None else json.loads(found)
        document.pop(random.choice("abxy"), None)
        document[random.choice("abc")] = self.number
        if random.random() < 0.4:
            document["t"] = [{"id": n, "q": self.number} for n in range(random.randrange(3))]
        return json.dumps(document).encode()

    def sync(self, one: int, two: int) -> None:
        if self.away in (one, two):
            return
        if one == self.left_out:
            return
        source, target = self.nodes[one], self.nodes[two]
        theirs = {o: seq for o, (seq, _) in target.vector().items()}
        behind = [
            node
            for node in self.nodes
            if any(known.floor > theirs.get(o, 0) for o, known in node.state.origins.items())
        ]
        if two == self.left_out and behind and source not in behind:
            return
        self.left_out = None if two == self.left_out else self.left_out
        if source in behind:
            self.snapshot(source, target)
            return
        self.hand(source, target, theirs)

    def hand(self, source: Store, target: Store, theirs: dict[str, int]) -> None:
        """Entries of the log that the target lacks."""
        entries = [
            Entry(row.header, row.body) for row in source.rows(1, 500) if row.seq > theirs.get(row.origin, 0)
        ]
        with target.group():
            assert target.apply(entries, self.now).refused == ""

    def snapshot(self, source: Store, target: Store) -> None:
        self.snapshots += 1
        self.shown = None
        old, before = target.origin, target.vector()

        def come_between() -> None:
            nonlocal old, before
            self.between += 1
            self.come_between(target)
            old, before = target.origin, target.vector()

        done = send(source, target, self.now, between=come_between)
        assert done.refused == ""
        if done.reborn:
            self.reissued += 1
            head = target.vector().get(old, (0, b""))[0]
            elsewhere = max((n.vector().get(old, (0, b""))[0] for n in self.nodes), default=0)
            self.scattered |= elsewhere > head
            for seq in range(max(head, elsewhere) + 1, before[old][0] + 1):
                del self.union[old, seq]
        self.look(target)

    def come_between(self, target: Store) -> None:
        """Between two steps of a merge the node writes, or takes entries of a third one."""
        random, index = self.random, self.nodes.index(target)
        shown = oracle.read_state(target.connection, set()).documents
        assert self.shown in (None, shown)
        if random.random() < 0.5:
            self.write(index)
        one = random.randrange(NODES)
        source, theirs = self.nodes[one], {o: seq for o, (seq, _) in target.vector().items()}
        behind = any(known.floor > theirs.get(o, 0) for o, known in source.state.origins.items())
        if index != self.left_out and one not in (index, self.away, self.left_out) and not behind:
            self.hand(source, target, theirs)
        self.shown = oracle.read_state(target.connection, set()).documents

    def come_or_go(self) -> None:
        self.away = self.random.randrange(NODES) if self.away is None else None

    def prune(self) -> None:
        """All who are here are equal; then some forget what all of them have, deletes too."""
        if self.left_out not in (None, self.away):
            return
        here = [i for i in range(NODES) if i != self.away]
        self.meet(here)
        vectors = [self.nodes[i].vector() for i in here]
        if any(vector != vectors[0] for vector in vectors):
            return
        self.left_out = self.left_out if self.away is None else self.away
        for i in here:
            if self.random.random() < 0.6:
                forget(self.nodes[i], tombstones=self.random.random() < 0.6)

    def meet(self, here: list[int]) -> None:
        for _ in range(NODES):
            for one in here:
                for two in here:
                    if one != two:
                        self.sync(one, two)

    def look(self, node: Store) -> None:
        for row in oracle.read_log(node.connection):
            self.union.setdefault(row.operation.id, row.operation)

    def end(self) -> None:
        self.away = None
        self.meet(list(range(NODES)))
        if self.scattered:
            return
        if self.counts:
            assert {node.get("users", "sum") for node in self.nodes} == {b'{"n":%d}' % self.sum}
        wanted = oracle.fold(self.union.values())
        live = {place: found for place, found in wanted.documents.items() if found[1] is not None}
        for node in self.nodes:
            assert node.vector() == self.nodes[0].vector()
            found = oracle.read_state(node.connection, oracle.merged_places(self.union.values()))
            assert {p: f for p, f in found.documents.items() if f[1] is not None} == live
            assert found.conflicts == wanted.conflicts
            exact(node)
            assert wrong_in_indexes(node) == []


def increment(key: str, amount: int) -> Write:
    return Write("users", key, None, None, (FieldOperation("inc", ("n",), b"%d" % amount),))


def exact(node: Store) -> None:
    """The numbers that are kept are those of the rows."""
    counted = [
        node.connection.execute(f"SELECT count(*) FROM {rows}").fetchone()[0]
        for rows in ("_entgldb_documents WHERE body IS NOT NULL", "_entgldb_oplog", "_entgldb_conflicts")
    ]
    assert counted == [node.state.documents, node.state.entries, node.state.conflicts]
    lsns = [n for (n,) in node.connection.execute("SELECT lsn FROM _entgldb_documents")]
    assert len(lsns) == len(set(lsns))
    assert max(lsns, default=0) <= node.state.lsn


def lived(seed: int, *, merging: bool, mixed: bool, indexed: bool = False) -> History:
    """From the first step to the end, in which all are equal, and their indexes right."""
    history = History(seed, merging=merging, mixed=mixed)
    try:
        for node in history.nodes if indexed else ():
            with node.group():
                node.indexes.create(define("users", ["n"]))
                node.indexes.create(define("users", ["s", "t"], text=True))
        for _ in range(STEPS):
            history.step()
        history.end()
    except AssertionError as fault:
        fault.add_note(f"seed {seed}")
        raise
    finally:
        for node in history.nodes:
            node.connection.close()
    return history


def lived_plainly(seed: int) -> History:
    return lived(seed, merging=False, mixed=False)


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_random_histories_with_snapshots_end_equal(*, merging: bool, mixed: bool) -> None:
    found = [lived(seed, merging=merging, mixed=mixed) for seed in range(HISTORIES)]
    assert sum(one.snapshots for one in found) > HISTORIES
    assert sum(one.reissued for one in found) > HISTORIES // 10
    assert sum(not one.scattered for one in found) > HISTORIES * 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("merging", "mixed"), [(False, False), (True, False), (True, True)])
def test_random_histories_on_postgresql_end_equal(
    monkeypatch: pytest.MonkeyPatch, *, merging: bool, mixed: bool
) -> None:
    monkeypatch.setattr(Store, "memory", staticmethod(postgres.like_memory))
    found = [lived(seed, merging=merging, mixed=mixed) for seed in range(ON_POSTGRES)]
    assert sum(one.snapshots for one in found) > 0


@pytest.mark.parametrize(("merging", "mixed"), [(False, False), (True, False), (True, True)])
def test_what_comes_between_the_steps_of_a_merge_is_decided_by_the_same_rules(
    monkeypatch: pytest.MonkeyPatch, *, merging: bool, mixed: bool
) -> None:
    in_steps(monkeypatch)
    found = [lived(seed, merging=merging, mixed=mixed, indexed=True) for seed in range(IN_STEPS)]
    assert sum(one.between for one in found) > 30
    assert sum(one.snapshots for one in found) > IN_STEPS


def forget_what_came_between(steps: Steps, rows: int) -> None:
    """A mistake: keys that were changed meanwhile are not done again."""
    steps._connection.execute("DELETE FROM _entgldb_next_touched")


def skip_a_range(steps: Steps, behind: tuple[str, str], begun: int) -> tuple[str, str] | None:
    """A mistake: the mark is ahead of the rows by a step."""
    end = NEXT_RANGE(steps, behind, begun)
    steps._connection.execute("DELETE FROM temp.scope")
    return end and NEXT_RANGE(steps, end, begun)


@pytest.mark.parametrize(
    ("name", "mistake", "known"),
    [("_take_touched", forget_what_came_between, 3), ("_next_range", skip_a_range, 13)],
)
def test_a_mark_that_forgets_what_came_between_or_is_ahead_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, mistake: Callable[..., object], known: int
) -> None:
    """``known``: a seed that noticed it."""
    in_steps(monkeypatch)
    monkeypatch.setattr(Steps, name, mistake)
    with pytest.raises(AssertionError):
        list(map(lived_plainly, (known, *range(3 * IN_STEPS))))


class Returned:
    """Two stores, one of which was away while the other pruned; conflicts of both in the end."""

    def __init__(self) -> None:
        self.here, self.away = (Store.memory(name, name.encode() * 8, NOW) for name in ("here", "away"))
        self.number = 0
        self.put(self.here, {"base": 1}, NOW)
        self.sent(self.here, self.away, NOW)

    def put(self, node: Store, document: dict[str, object] | None, now: int) -> None:
        self.number += 1
        body = None if document is None else json.dumps(document).encode()
        with node.group():
            node.write(RequestId(b"c" * 16, self.number), [Write("users", "k", body)], now)

    def settle(self, node: Store, take: str, now: int) -> None:
        """Decide about the one conflict there is."""
        ((origin, seq),) = self.conflicts(node)
        self.number += 1
        with node.group():
            request = RequestId(b"c" * 16, self.number)
            node.resolve(request, ("users", "k"), Version(origin, seq), take, None, now)

    def sent(self, source: Store, target: Store, now: int) -> None:
        theirs = {origin: seq for origin, (seq, _) in target.vector().items()}
        rows = [row for row in source.rows(1, 500) if row.seq > theirs.get(row.origin, 0)]
        with target.group():
            assert target.apply([Entry(row.header, row.body) for row in rows], now).refused == ""

    def back(self, now: int) -> tuple[dict[str, object], list[str]]:
        """A snapshot to the one that was away, its tail to the other; what both show."""
        forget(self.here, tombstones=False)
        assert send(self.here, self.away, now).reborn
        self.sent(self.away, self.here, now)
        assert self.here.vector() == self.away.vector()
        shown = [self.shows(node) for node in (self.here, self.away)]
        assert shown[0] == shown[1]
        for node in (self.here, self.away):
            exact(node)
        return shown[0]

    def conflicts(self, node: Store) -> list[tuple[str, int]]:
        return node.connection.execute(
            "SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
        ).fetchall()

    def shows(self, node: Store) -> tuple[dict[str, object], list[str]]:
        found = node.get("users", "k")
        assert found is not None
        bodies = node.connection.execute("SELECT body FROM _entgldb_conflicts ORDER BY hlc, origin")
        return json.loads(found), [body for (body,) in bodies]


def rivals() -> Returned:
    """Both have changed the same base, and the one that is away knows it."""
    both = Returned()
    both.put(both.here, {"n": 1}, NOW + 1)
    both.put(both.away, {"n": 2}, NOW + 2)
    both.sent(both.here, both.away, NOW + 3)
    return both


def test_a_whole_write_behind_a_merge_of_the_tail_is_no_rival_of_it() -> None:
    both = rivals()
    both.settle(both.away, "loser", NOW + 4)
    both.put(both.away, {"n": 4}, NOW + 5)
    both.put(both.here, {"n": 5}, NOW + 6)
    assert both.back(NOW + 7) == ({"n": 5}, ['{"n": 4}'])


def test_a_whole_write_before_a_merge_of_the_tail_replaces_what_it_replaces_elsewhere() -> None:
    both = Returned()
    both.put(both.away, {"a": 1, "b": 1}, NOW + 1)
    both.away.state.merging.add("users")
    both.put(both.away, {"a": 2, "b": 1}, NOW + 2)
    both.put(both.here, {"c": 5}, NOW + 3)
    assert both.back(NOW + 4)[0] == {"c": 5}
