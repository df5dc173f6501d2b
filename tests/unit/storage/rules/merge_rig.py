"""Writers that know part of a history, and histories of them: what the tests of merging are made from."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

from hypothesis import strategies as st

from entgldb.messages.client import FieldOperation
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import Version
from entgldb.storage.log.rows import accumulated, composed
from entgldb.storage.rules.merging.changes import fresh
from entgldb.storage.rules.merging.row import (
    Merging,
    Operation,
    absorb,
    operation,
    put_operation,
    read_merging,
)
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save
from entgldb.storage.rules.merging.tree import text_of
from tests.simulation.watch.merge_oracle import Step

ORIGINS = ("a/" + "0" * 32, "b/" + "1" * 32, "c/" + "2" * 32)

SCALARS = (None, True, False, 0, 1, 2, "", "x", 1.0, -0.0, 2**70)


def value(random: Random, depth: int) -> Any:
    """A scalar, a list of scalars, a list of elements, or fields of the same."""
    kind = random.randrange(5 if depth else 4)
    if kind < 2:
        return random.choice(SCALARS)
    if kind == 2:
        return random.choices(SCALARS, k=random.randrange(3))
    if kind == 3:
        names = [random.sample(("id", "qty"), random.randrange(3)) for _ in range(random.randrange(4))]
        return [{name: random.randint(1, 3) for name in some} for some in names]
    return {name: value(random, depth - 1) for name in random.sample("xy", random.randrange(3))}


def pool(size: int) -> list[dict[str, Any]]:
    """Documents, the smallest first: to draw one of them takes a tenth of what it takes to draw its parts."""
    random = Random(1)
    made = [
        {name: value(random, 2) for name in random.sample("abc", random.randrange(4))} for _ in range(size)
    ]
    return sorted(made, key=lambda document: len(text_of(document)))


documents = st.sampled_from(pool(1000))


class Writer:
    """A node that writes from what it knows of one key."""

    def __init__(self, number: int) -> None:
        self.origin = ORIGINS[number]
        self.seq = 0
        self.row: Stored | None = None

    def write(self, hlc: int, kind: str, document: dict[str, Any]) -> Step:
        """One write of any kind; the operation as the oracle sees it. Raises InvalidError."""
        if kind in VERBS:
            self._merging(kind, document)
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
        if kind in VERBS:
            return accumulated(row, operations(kind, document), self.origin, 0)
        if row is None:
            return Merging(fresh(document))
        if not row.live:
            return Merging(fresh(document), over=row.newest.stamp)
        return composed(row, document, fields=True, origin=self.origin)


def operations(verb: str, document: dict[str, Any]) -> list[FieldOperation]:
    """Operations on the fields ``a`` and ``b.x``, one for each field of ``document``."""
    made = []
    for name, value in document.items():
        path = ("a",) if name == "a" else ("b", "x")
        element = value if type(value) in (str, int, bool) else len(text_of(value))
        amount = element if type(element) is int and abs(element) < 99 else -1
        made.append(FieldOperation(verb, path, text_of(amount if verb == "inc" else element).encode()))
    return made or [FieldOperation(verb, ("a",), b"1")]


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


VERBS = ("inc", "add", "remove")

kinds = st.sampled_from(["merge", "merge", "merge", "delete", "put", "drop", *VERBS, *VERBS])

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
        with suppress(InvalidError):  # what stands there is no counter, or no set
            steps.append(writer.write(100 + at, kind, document))
    return steps
