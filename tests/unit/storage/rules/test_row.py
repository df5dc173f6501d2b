"""The algebra of merging: idempotent, commutative, associative, whatever the order."""

from __future__ import annotations

import sys
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entgldb.messages.model import Version
from entgldb.storage.rules.merging.changes import (
    check_change,
    difference,
    fresh,
    plant,
    same,
    split,
    text_of,
    whole,
)
from entgldb.storage.rules.merging.row import (
    Current,
    Loser,
    Merging,
    Operation,
    Side,
    absorb,
    join,
    operation,
    put_operation,
    read_merging,
    refolded,
)
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save
from entgldb.storage.rules.merging.tree import Stamp, Tree, render, settle, union
from tests.simulation.watch.merge_oracle import Step, outcome

ORIGINS = ("a/" + "0" * 32, "b/" + "1" * 32, "c/" + "2" * 32)

scalars = st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["", "x", 1.0, -0.0, 2**70]))
elements = st.dictionaries(st.sampled_from(["qty", "id"]), st.integers(1, 3), max_size=2)
values = st.recursive(
    st.one_of(scalars, st.lists(scalars, max_size=2), st.lists(elements, max_size=3)),
    lambda inner: st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)


class Writer:
    """A node that writes from what it knows of one key."""

    def __init__(self, number: int) -> None:
        self.origin = ORIGINS[number]
        self.seq = 0
        self.row: Stored | None = None

    def write(self, hlc: int, kind: str, document: dict[str, Any]) -> Step:
        """One write of any kind; the operation as the oracle sees it."""
        self.seq += 1
        tip = Tip(self.origin, self.seq, hlc)
        parent = None if self.row is None else self.row.newest.version
        body: str | None
        if kind in ("put", "drop"):
            body = None if kind == "drop" else text_of(document)
            named, seen = frozenset(() if parent is None else (parent,)), ()
            one, op = (
                put_operation(tip, named, body),
                1 if kind == "drop" else 0,
            )
        else:
            row = self.row
            seen = tuple(tip.version for tip in row.tips) if row is not None and row.live else ()
            named = frozenset(seen if parent is None else (parent, *seen))
            body, op = self._merging(kind, document).encode().decode(), 2
            one = operation(tip, named, read_merging(body, tip.stamp))
        self.row = absorb(self.row, one).stored
        return Step(
            (self.origin, self.seq),
            hlc,
            op,
            None if parent is None else tuple(parent),
            body,
            tuple(tuple(version) for version in seen),
        )

    def _merging(self, kind: str, document: dict[str, Any]) -> Merging:
        row = self.row
        if kind == "delete":
            return Merging(delete=True)
        if row is None:
            return Merging(fresh(document))
        if not row.live:
            return Merging(fresh(document), over=row.newest.stamp)
        return Merging(difference(row.document(), document, row.tree))


def read(step: Step) -> Operation:
    tip = Tip(step.id[0], step.id[1], step.hlc)
    named = frozenset(Version(*one) for one in (step.parent, *step.seen) if one is not None)
    if step.op == 2:
        assert step.body is not None
        return operation(tip, named, read_merging(step.body, tip.stamp))
    return put_operation(tip, named, step.body)


def fold(steps: list[Step]) -> tuple[Stored, frozenset[tuple[str, int]]]:
    """The row and conflicts that one node makes of operations in this order, saving and loading its row each
    time."""
    row: Stored | None = None
    conflicts: set[tuple[str, int]] = set()
    for step in steps:
        one = read(step)
        after = absorb(row, one)
        conflicts -= {tuple(version) for version in one.named}
        conflicts -= {tuple(tip.version) for tip in after.restored}
        conflicts |= {tuple(loser.tip.version) for loser in after.losers}
        row = load(after.stored.newest, *save(after.stored))
        assert row == after.stored
    assert row is not None
    return row, frozenset(conflicts)


def shown(row: Stored) -> dict[str, Any] | None:
    return row.document() if row.live else None


kinds = st.sampled_from(["merge", "merge", "merge", "delete", "put", "drop"])
histories = st.lists(st.tuples(st.integers(0, 2), kinds, documents, st.booleans()), min_size=1, max_size=9)


def played(history: list[tuple[int, str, dict[str, Any], bool]]) -> list[Step]:
    """Writers that now and then learn all that there is, so that some writes are concurrent."""
    writers, steps = [Writer(number) for number in range(3)], list[Step]()
    for at, (number, kind, document, learns) in enumerate(history):
        writer = writers[number]
        if learns and steps:
            writer.row = fold(steps)[0]
        if writer.row is None and kind in ("delete", "drop"):
            continue
        steps.append(writer.write(100 + at, kind, document))
    return steps


@settings(max_examples=400, deadline=None)
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


@settings(max_examples=400, deadline=None)
@given(documents, documents, st.lists(documents, max_size=3))
def test_a_difference_makes_one_document_of_the_other(old: Any, new: Any, others: list[Any]) -> None:
    writer = Writer(0)
    for at, document in enumerate([*others, old]):
        writer.write(at, "merge", document)
    assert writer.row is not None
    assert same(writer.row.document(), old)
    assert difference(old, old, writer.row.tree) == {}
    writer.write(100, "merge", new)
    assert same(writer.row.document(), new)


changes = (
    documents.map(fresh)
    | documents.map(whole)
    | st.just({".a": {"-": 1}})
    | st.just({".a": {".x": {"-": 1}}})
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


@settings(max_examples=400, deadline=None)
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


def test_all_orders_of_seven_operations_end_alike() -> None:
    writers = [Writer(number) for number in range(3)]
    steps = [writers[who].write(10 + at, kind, document) for at, (who, kind, document) in enumerate(SEVEN)]
    wanted = outcome(steps)
    read_once = {step: read(step) for step in steps}
    ends = set()
    for order in permutations(steps):
        row: Stored | None = None
        for step in order:
            row = absorb(row, read_once[step]).stored
        assert row is not None
        ends.add((row.newest, row.live, *save(row._replace(tips=()))))
    assert len(ends) == 1
    assert same(shown(row), wanted.document)


def test_all_orders_of_seven_concurrent_operations_leave_the_same_conflicts() -> None:
    """Nobody knew of anybody: every order is a causal one."""
    steps = []
    for at, (_, kind, document) in enumerate(SEVEN):
        writer = Writer(0)
        writer.origin = f"{'abcdefg'[at]}/{'0' * 32}"
        steps.append(writer.write(10 + at % 3, kind, document))
    wanted = outcome(steps)
    assert wanted.conflicts
    read_once = {step: read(step) for step in steps}
    ends = set()
    for order in permutations(steps):
        row: Stored | None = None
        conflicts: dict[tuple[str, int], str] = {}
        for step in order:
            after = absorb(row, read_once[step])
            row = after.stored
            for tip in after.restored:
                conflicts.pop(tuple(tip.version), None)
            for loser in after.losers:
                conflicts.setdefault(tuple(loser.tip.version), loser.text)
        assert row is not None
        ends.add((row.newest, row.live, *save(row), tuple(sorted(conflicts.items()))))
    (end,) = ends
    assert {version for version, _ in end[-1]} == wanted.conflicts
    assert same(shown(row), wanted.document)


def both(old: dict[str, Any], one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """The document that two concurrent edits of ``old`` make, ``two`` the later."""
    writers = [Writer(number) for number in range(2)]
    first = writers[0].write(1, "merge", old)
    writers[1].row = fold([first])[0]
    steps = [first, writers[0].write(2, "merge", one), writers[1].write(3, "merge", two)]
    (row, _), (other, _) = fold(steps), fold([first, steps[2], steps[1]])
    assert row == other
    return row.document()


PEER = {"NodeId": "c", "Address": "old:1", "IsEnabled": False}


@pytest.mark.parametrize(
    ("old", "one", "two", "wanted"),
    [
        (
            PEER,
            PEER | {"IsEnabled": True},
            PEER | {"Address": "new:2"},
            {**PEER, "IsEnabled": True, "Address": "new:2"},
        ),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": 2}}),
        ({}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": 1, "b": 3}, {"b": 3}),
        ({"a": 1}, {"a": 2}, {}, {}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": 2}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": {"x": 1, "y": 2}}, {"a": {"y": 2}}),
        ({"t": [1, 2]}, {"t": [1, 2, 3]}, {"t": [0]}, {"t": [0]}),
        ({"t": []}, {"t": [{"id": 1}]}, {"t": [{"id": 2}]}, {"t": [{"id": 2}, {"id": 1}]}),
        (
            {"t": [{"id": 1, "q": 1}, {"id": 2, "q": 1}]},
            {"t": [{"id": 1, "q": 1}, {"id": 2, "q": 5}]},
            {"t": [{"id": 3}, {"id": 1, "q": 1}, {"id": 2, "q": 1}]},
            {"t": [{"id": 3}, {"id": 1, "q": 1}, {"id": 2, "q": 5}]},
        ),
        (
            {"t": [{"id": 1, "q": 1}, {"id": 2, "q": 1}]},
            {"t": [{"id": 2, "q": 1}]},
            {"t": [{"id": 1, "q": 9}, {"id": 2, "q": 1}]},
            {"t": [{"id": 2, "q": 1}]},
        ),
        ({"a": {}}, {"a": {}, "b": []}, {"a": {}, "c": [{}]}, {"a": {}, "b": [], "c": [{}]}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {}}),
    ],
)
def test_two_edits_at_once(
    old: dict[str, Any], one: dict[str, Any], two: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert both(old, one, two) == wanted


def test_versions_of_fields_are_kept_sparsely() -> None:
    writer = Writer(0)
    document = {f"f{number}": number for number in range(100)}
    writer.write(1, "merge", document)
    assert writer.row is not None
    before = save(writer.row)[1]
    writer.write(2, "merge", document | {"f7": 0})
    after = save(writer.row)[1]
    assert before is not None
    assert after is not None
    assert (len(before) < 60, len(after) - len(before) < 30) == (True, True)
    writer.write(3, "put", document)
    assert save(writer.row)[1] is None


def two_fields(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"name": "Bob"}


def every_quantity(document: dict[str, Any]) -> dict[str, Any]:
    return {"items": [element | {"qty": 7} for element in document["items"]]}


HUNDRED = {"items": [{"id": number, "qty": 0, "name": f"n{number}"} for number in range(100)]}


@pytest.mark.parametrize(
    ("document", "edit", "calls_max"),
    [({"name": "Ada", "age": 36}, two_fields, 90), (HUNDRED, every_quantity, 2_000)],
)
def test_merging_takes_few_steps(document: dict[str, Any], edit: Any, calls_max: int) -> None:
    """From a row and an entry's body, as bytes, to the row: calls of functions, not seconds."""
    first = Writer(0)
    first.write(1, "merge", document)
    assert first.row is not None
    body, stamps = save(first.row)
    change = difference(document, edit(document), first.row.tree)
    text, tip = Merging(change).encode(), Tip(ORIGINS[1], 1, 2)
    calls = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        row = load(Tip(ORIGINS[0], 1, 1), body, stamps)
        one = operation(tip, frozenset((row.newest.version,)), read_merging(text, tip.stamp))
        save(absorb(row, one).stored)
    finally:
        sys.setprofile(None)
    assert calls <= calls_max


@example({"a": [{"id": 1}]}, {"a": {}}, 0)
@given(documents, documents, st.integers(0, 60))
def test_a_change_in_parts_comes_to_the_same(
    before: dict[str, Any], after: dict[str, Any], size: int
) -> None:
    tree = settle(plant(whole(before), (1, "a")))
    for change in (whole(after), difference(before, after, tree)):
        made = tree
        parts = split(change, size)
        for number, part in enumerate(parts):
            check_change(part, 40)
            made = settle(union(made, plant(part, (2 + number, "b"))))
        assert same(render(made), after)
        assert len(parts) == 1 or size < len(text_of(change).encode()) + 8


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


@settings(max_examples=400, deadline=None)
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


@settings(max_examples=400, deadline=None)
@given(histories, st.integers(0, 2))
def test_an_operation_counts_once_however_often_it_comes(history: Any, again: int) -> None:
    steps = played(history)
    once = Known(steps)
    row = once.row
    for step in steps[: again + 1]:
        row = absorb(row, read(step), superseded=True).stored
    assert row is None or once.row is None or row._replace(tips=()) == once.row._replace(tips=())


@settings(max_examples=400, deadline=None)
@given(histories, st.integers(0, 2))
def test_without_a_writer_a_key_is_what_the_others_made_of_it(history: Any, number: int) -> None:
    steps = played(history)
    if not steps:
        return
    stamps = {step.hlc: (step.hlc, step.id[0]) for step in steps if step.id[0] == ORIGINS[number]}
    left = [step for step in steps if step.hlc not in stamps]
    overs = [over for step in steps if step.hlc in stamps if (over := read_over(step)) is not None]
    row = fold(steps)[0]
    found, losers = refolded(row, [read(step) for step in left], {*stamps.values(), *overs}, set())
    if not left:
        assert found is None
        return
    wanted = outcome(left)
    assert found is not None
    assert (tuple(found.newest.version), same(shown(found), wanted.document)) == (wanted.newest, True)
    assert {tuple(loser.tip.version) for loser in losers} == wanted.conflicts


def read_over(step: Step) -> Stamp | None:
    return read_merging(step.body or "", (step.hlc, step.id[0])).over if step.op == 2 else None


def plain(origin: str, seq: int, hlc: int, text: str | None, *named: Version) -> Operation:
    return put_operation(Tip(origin, seq, hlc), frozenset(named), text)


A3 = Version(ORIGINS[0], 3)


@pytest.mark.parametrize(
    ("hlc", "text", "there", "stands", "lost"),
    [
        (9, "{}", "{}", True, "there"),
        (11, "{}", "{}", False, "incoming"),
        (10, "{}", "{}", True, "there"),
        (9, "{}", None, True, ""),
        (11, "{}", None, False, "incoming"),
        (9, None, "{}", True, "there"),
        (11, None, "{}", False, ""),
        (9, None, None, True, ""),
    ],
)
def test_of_two_whole_writes_that_do_not_know_each_other_the_greater_stands(
    hlc: int, text: str | None, there: str | None, stands: bool, lost: str
) -> None:
    """``hlc``: of the row that the second writer's entry, stamped 10, meets."""
    before = plain(ORIGINS[0], 3, hlc, there).row
    after = absorb(before, plain(ORIGINS[1], 5, 10, text))
    assert (after.stored.newest.origin == ORIGINS[1]) is stands
    origins = {"there": [ORIGINS[0]], "incoming": [ORIGINS[1]], "": []}
    assert [loser.tip.origin for loser in after.losers] == origins[lost]
    assert all(loser.whole for loser in after.losers)


def test_what_an_entry_names_it_replaces_and_no_conflict_is_left() -> None:
    before = plain(ORIGINS[0], 3, 9, '{"n": 1}').row
    after = absorb(before, plain(ORIGINS[1], 5, 10, '{"n": 2}', Version(ORIGINS[0], 99), A3))
    assert (after.stored.text, after.losers) == ('{"n": 2}', ())


def test_what_is_stamped_before_the_version_that_it_replaces_loses_against_it() -> None:
    before = plain(ORIGINS[0], 3, 9, "{}").row
    after = absorb(before, plain(ORIGINS[1], 5, 8, "{}", A3))
    assert after.stored == before
    assert [loser.tip.origin for loser in after.losers] == [ORIGINS[1]]


@pytest.mark.parametrize(
    ("current", "named", "yields"),
    [
        (Current(ORIGINS[0], 3, 9, True), (A3,), True),
        (Current(ORIGINS[0], 3, 9, True), (), False),
        (Current(ORIGINS[0], 3, 9, False), (), True),
        (Current(ORIGINS[0], 3, 11, True), (A3,), False),
        (Current(ORIGINS[0], 3, 9, True, merged=True), (A3,), False),
    ],
)
def test_a_version_yields_to_a_whole_write_that_is_later_and_knew_it(
    current: Current, named: tuple[Version, ...], yields: bool
) -> None:
    assert current.yields_to((10, ORIGINS[1]), named) is yields
