"""The algebra of merging: idempotent, commutative, associative, whatever the order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.model import Version
from entgldb.storage.rules.merging.accumulating import tags_removed
from entgldb.storage.rules.merging.changes import fresh, plant, same, whole
from entgldb.storage.rules.merging.row import Loser, Side, absorb, join, read_merging, refolded
from entgldb.storage.rules.merging.stored import Stored, save
from entgldb.storage.rules.merging.tree import Stamp, Tree, settle, union
from tests.simulation.watch.merge_oracle import Step, outcome
from tests.unit.storage.rules.merge_rig import (
    ORIGINS,
    Writer,
    documents,
    fold,
    histories,
    played,
    read,
    shown,
)

EXAMPLES = int(os.environ.get("ENTGLDB_MERGES", "150"))
"""Of each law; a soak has more."""


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_any_order_with_repetitions_shows_what_the_oracle_says(history: Any, random: Any) -> None:
    steps = played(history)
    if not steps:
        return
    wanted = outcome(steps)
    row, conflicts = fold(steps)
    assert tuple(row.newest.version) == wanted.newest
    assert same(shown(row), wanted.document)
    assert conflicts == wanted.conflicts
    # documents do not even need causes to come first
    for _ in range(3):
        again = steps + random.sample(steps, len(steps) // 2)
        random.shuffle(again)
        other, _ = fold(again)
        assert (other.newest, other.live, other.tree) == (row.newest, row.live, row.tree)


changes = (
    documents.map(fresh)
    | documents.map(whole)
    | st.just({".a": {"-": 1}})
    | st.just({".a": {".x": {"-": 1}}})
    | st.sampled_from(
        [
            {".a": {"+": 1}},
            {".a": {f"+5@{ORIGINS[0]}": 3}},
            {".a": {f"+5@{ORIGINS[0]}": 4}},
            {".a": {"-": 1, "+": 2}},
            {".a": {'*"x"': 1}},
            {".a": {'*"x"': {f"@{ORIGINS[1]}": 7}}},
            {".a": {'*"x"': {"@": 1, f"@{ORIGINS[1]}": 3}, "*1": 1}},
            {".a": ["x", 1]},
        ]
    )
)

trees = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(ORIGINS)), unique=True, max_size=4).flatmap(
    lambda stamps: st.tuples(
        *(changes.map(lambda change, stamp=stamp: plant(change, stamp)) for stamp in stamps)
    )
)


def merged(*parts: Tree) -> Tree:
    made: Tree = {}
    for part in parts:
        made = settle(union(made, part))
    return made


@settings(max_examples=EXAMPLES, deadline=None)
@given(trees)
def test_joining_is_a_semilattice(parts: tuple[Tree, ...]) -> None:
    a, b, c = (merged(*parts[number::3]) for number in range(3))
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(a, a) == a
    assert merged(a, b, b, a) == merged(a, b)


SEVEN: list[tuple[int, str, dict[str, Any]]] = [
    (0, "merge", {"a": {"x": 1}, "items": [{"id": 1, "qty": 1}, {"id": 2, "qty": 1}], "n": 1}),
    (1, "merge", {"a": "text", "items": [{"id": 3}], "n": 2}),
    (2, "put", {"a": {"y": [1]}, "z": {}}),
    (0, "merge", {"a": {"x": 2}, "items": [{"id": 2, "qty": 7}], "m": []}),
    (1, "delete", {}),
    (2, "merge", {"a": {"y": [2]}, "items": [{"_id": "s"}]}),
    (1, "merge", {"b": True}),
]


ACCUMULATING: list[tuple[int, str, dict[str, Any]]] = [
    (0, "merge", {"a": 10, "b": {"x": ["p", "q"]}}),
    (1, "inc", {"a": 3}),
    (0, "inc", {"a": 2}),
    (2, "add", {"b": "p"}),
    (1, "inc", {"a": 1}),
    (2, "merge", {"a": 4, "b": {"x": ["p", 1]}}),
    (0, "remove", {"b": "p"}),
]


both = pytest.mark.parametrize("seven", [SEVEN, ACCUMULATING], ids=["replacing", "accumulating"])


def in_every_order(steps: list[Step]) -> Iterator[tuple[Stored, dict[tuple[str, int], str]]]:
    """Each state that a key comes to by all orders of ``steps``, with its conflicts.

    Orders that have come to one state by the same steps go on as one.
    """
    operations = [read(step) for step in steps]
    come_to: dict[frozenset[int], dict[str, tuple[Stored | None, dict[tuple[str, int], str]]]]
    come_to = {frozenset(): {"": (None, {})}}
    for _ in steps:
        further: dict[frozenset[int], dict[str, tuple[Stored | None, dict[tuple[str, int], str]]]] = {}
        for taken, states in come_to.items():
            for (row, conflicts), at in product(states.values(), set(range(len(steps))) - taken):
                after = absorb(row, operations[at])
                restored = {tuple(tip.version) for tip in after.restored}
                kept = {version: text for version, text in conflicts.items() if version not in restored}
                made = {tuple(loser.tip.version): loser.text for loser in after.losers}
                state = after.stored, dict(sorted((made | kept).items()))
                further.setdefault(taken | {at}, {})[repr(state)] = state
        come_to = further
    for row, conflicts in come_to[frozenset(range(len(steps)))].values():
        assert row is not None
        yield row, conflicts


@both
def test_all_orders_of_seven_operations_end_alike(seven: list[tuple[int, str, dict[str, Any]]]) -> None:
    writers = [Writer(number) for number in range(3)]
    steps = [writers[who].write(10 + at, kind, document) for at, (who, kind, document) in enumerate(seven)]
    wanted = outcome(steps)
    ends = set()
    for row, _ in in_every_order(steps):
        ends.add((row.newest, row.live, *save(row._replace(tips=()))))
    assert len(ends) == 1
    assert same(shown(row), wanted.document)


@both
def test_all_orders_of_seven_concurrent_operations_leave_the_same_conflicts(
    seven: list[tuple[int, str, dict[str, Any]]],
) -> None:
    """Nobody knew of anybody: every order is a causal one."""
    steps = []
    for at, (_, kind, document) in enumerate(seven):
        writer = Writer(0)
        writer.origin = f"{'abcdefg'[at]}/{'0' * 32}"
        steps.append(writer.write(10 + at % 3, kind, document))
    wanted = outcome(steps)
    ends = set()
    for row, conflicts in in_every_order(steps):
        ends.add((row.newest, row.live, *save(row), tuple(sorted(conflicts.items()))))
    (end,) = ends
    assert {version for version, _ in end[-1]} == wanted.conflicts
    assert same(shown(row), wanted.document)


class Known:
    """A node's knowledge of one key: its row, its conflicts, and the versions it has taken in."""

    def __init__(self, taken: list[Step]) -> None:
        self.versions = {Version(*step.id) for step in taken}
        self.row: Stored | None = None
        self.conflicts: dict[Version, Loser] = {}
        for step in taken:
            one = read(step)
            after = absorb(self.row, one)
            self.row = after.stored
            for version in (*one.named, *(tip.version for tip in after.restored)):
                self.conflicts.pop(version, None)
            self.conflicts |= {loser.tip.version: loser for loser in after.losers}

    def side(self) -> Side:
        return Side(self.row, self.conflicts, self.versions.__contains__)

    def joined(self, other: Known) -> Known:
        made = Known([])
        made.versions = self.versions | other.versions
        made.row, made.conflicts = join(self.side(), other.side())
        return made

    def told(self) -> tuple[Any, ...]:
        blob = None if self.row is None else (self.row.newest, self.row.live, *save(self.row))
        return blob, frozenset(self.conflicts)


def causal(steps: list[Step], chosen: set[int]) -> list[Step]:
    """Some of a history, with everything that their writers had named, and their own earlier writes."""
    ids = {step.id: at for at, step in enumerate(steps)}
    waiting, found = list(chosen), set[int]()
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        found.add(at)
        step = steps[at]
        named = [one for one in (step.parent, *step.seen) if one is not None]
        waiting += [ids[tuple(one)] for one in named]
        waiting += [before for before in range(at) if steps[before].id[0] == step.id[0]]
    return [steps[at] for at in sorted(found)]


chosen = st.sets(st.integers(0, 8), max_size=5)


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories, chosen, chosen, chosen)
def test_joining_sides_is_a_semilattice_and_comes_to_the_union_of_their_operations(
    history: Any, one: set[int], two: set[int], three: set[int]
) -> None:
    steps = played(history)
    parts = [causal(steps, {at for at in some if at < len(steps)}) for some in (one, two, three)]
    a, b, c = (Known(part) for part in parts)
    assert a.joined(a).told() == a.told()
    assert a.joined(b).told() == b.joined(a).told()
    assert a.joined(b).joined(c).told() == a.joined(b.joined(c)).told()
    together = [step for step in steps if step in parts[0] or step in parts[1]]
    assert a.joined(b).told() == Known(together).told()


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories, st.integers(0, 2))
def test_an_operation_counts_once_however_often_it_comes(history: Any, again: int) -> None:
    steps = played(history)
    once = Known(steps)
    row = once.row
    for step in steps[: again + 1]:
        row = absorb(row, read(step), superseded=True).stored
    assert row is None or once.row is None or row._replace(tips=()) == once.row._replace(tips=())


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories, st.integers(0, 2))
def test_without_a_writer_a_key_is_what_the_others_made_of_it(history: Any, number: int) -> None:
    steps = played(history)
    if not steps:
        return
    stamps = {step.hlc: (step.hlc, step.id[0]) for step in steps if step.id[0] == ORIGINS[number]}
    left = [step for step in steps if step.hlc not in stamps]
    below = [stamp for step in steps if step.hlc in stamps for stamp in carried(step)]
    row = fold(steps)[0]
    found, losers = refolded(row, [read(step) for step in left], {*stamps.values(), *below}, set())
    if not left:
        assert found is None
        return
    wanted = outcome(left)
    assert found is not None
    assert (tuple(found.newest.version), same(shown(found), wanted.document)) == (wanted.newest, True)
    assert {tuple(loser.tip.version) for loser in losers} == wanted.conflicts


def carried(step: Step) -> list[Stamp]:
    """The stamps of others that an operation has in its leaves."""
    if step.op != 2:
        return []
    said = read_merging(step.body or "", (step.hlc, step.id[0]))
    return [*tags_removed(said.change), *([] if said.over is None else [said.over])]
