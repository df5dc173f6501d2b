"""What the log still brings is not shown by verification as well: it would take the line from the log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entgldb.actors.behaviour import Context
from entgldb.actors.oplog import verifier, walker
from entgldb.actors.oplog.verify_run import WAITS_MAX, PeerState, Run
from entgldb.messages.client import Write
from entgldb.messages.model import NODES, Entry
from entgldb.messages.wire import Copies
from entgldb.storage.repair import copies
from entgldb.storage.rules.results import Walked
from tests.unit.actors.oplog.verify_rig import NOW, Pair, Side, Writing


def doc(key: str, body: bytes = b'{"a":1}') -> Write:
    return Write("users", key, body)


@pytest.mark.parametrize("behind", ["lan-1", "lan-2", "both"])
def test_documents_that_the_log_still_brings_are_not_shown(behind: str) -> None:
    pair = Pair()
    pair.write_both(*(doc(f"k{n}") for n in range(60)))
    sides = {side.name: side for side in (pair.one, pair.two)}
    sides.pop(behind, None)
    for first, (name, side) in zip((0, 20), sides.items(), strict=False):
        side.write(
            *(doc(f"k{n}", b'{"a":2}') for n in range(first, 40)), *(doc(f"{name}{n}") for n in range(9))
        )
    found = pair.run()
    assert (found["result"], found["waiting"]) == ("waiting", 40 + 9 * len(sides))
    assert pair.shown == 0


@pytest.mark.parametrize("behind", [0, 1])
def test_a_document_into_which_the_log_still_brings_an_older_change_is_not_shown(behind: int) -> None:
    """Both have its newest version, and one of them the field of a third writer."""
    pair, third = Pair(), Side("third")
    sides = (pair.one, pair.two)
    for side in (*sides, third):
        side.store.state.merging.add("users")
    older = third.write(doc("k", b'{"f":1}'))
    pair.write_both(doc("other"), doc("k"))
    sides[1 - behind].take(older)
    assert {side.body("k") for side in sides} == {b'{"a":1}', b'{"a":1,"f":1}'}
    found = pair.run()
    assert (found["result"], found["waiting"], pair.shown) == ("waiting", 1, 0)
    sides[behind].take(older)
    assert pair.run()["result"] == "equal"


def test_a_document_whose_change_is_recorded_while_it_is_compared_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cloud brings the header alone of an older change: equal vectors, and two documents."""
    pair, third = Pair(), Side("third")
    compare = verifier.Verifier._compare_copies
    older = third.write(Write(NODES, "k", b'{"f":1}'), system=True)
    newer = pair.one.write(doc("other"), Write(NODES, "k", b'{"a":1}'), system=True)
    pair.two.take([*newer, *older])

    def recorded(self: verifier.Verifier, state: PeerState, run: Run, told: Copies, ctx: Context) -> None:
        with pair.one.store.group():
            pair.one.store.apply([Entry(entry.header, None) for entry in older], NOW, cloud=True)
        compare(self, state, run, replace(told, vector=pair.one.store.vector()), ctx)

    monkeypatch.setattr(verifier.Verifier, "_compare_copies", recorded)
    found = pair.run()
    assert (pair.one.counts, pair.two.counts) == ({}, {})
    assert (found["result"], found["waiting"]) == ("waiting", 1)
    pair.one.take(older)
    assert pair.run()["result"] == "equal"


def test_damage_is_mended_beside_what_the_log_still_brings() -> None:
    pair = Pair()
    pair.write_both(*(doc(f"k{n}") for n in range(60)))
    pair.one.write(doc("new"), doc("k1", b'{"a":2}'))
    pair.two.write(doc("k2", b'{"a":3}'))
    pair.one.sql("UPDATE _entgldb_documents SET body = '{}' WHERE key = 'k3'")
    pair.two.sql("DELETE FROM _entgldb_documents WHERE key = 'k1'")
    pair.run()
    assert pair.one.body("k3") == b'{"a":1}'
    assert (pair.one.counts["repaired"], pair.two.counts["repaired"]) == (1, 0)
    assert (pair.one.body("k2"), pair.two.body("new")) == (b'{"a":1}', None)


def test_new_documents_beyond_the_entries_that_are_looked_at_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies, "COMING_MAX", 5)
    pair = Pair()
    pair.one.write(*(doc(f"k{n}") for n in range(60)))
    assert (pair.run()["waiting"], pair.shown) == (60, 0)


@pytest.mark.parametrize("repair", [False, True])
def test_a_comparison_ends_while_others_go_on_writing(
    monkeypatch: pytest.MonkeyPatch, *, repair: bool
) -> None:
    """At each look some documents are on their way, never the same."""
    monkeypatch.setattr(walker, "STEP_PAUSE", 2.0)
    pair = Pair()
    for first in range(0, 2_000, 500):
        pair.write_both(*(doc(f"k{n}") for n in range(first, first + 500)))
    pair.one.sql("UPDATE _entgldb_documents SET body = '{}' WHERE key = 'k1999'")
    pair.writing = Writing(pair, "users", [f"k{n}" for n in range(1_900)])
    found = pair.run(repair=repair, seconds=200.0)
    assert (found["result"], found["waiting"]) == ("repaired" if repair else "differing", 0)
    assert found["keys"] == [["users", "k1999", "take"]]
    assert found["passes"] <= 3
    assert pair.one.body("k1999") == (b'{"a":1}' if repair else b"{}")


def test_a_document_that_stays_on_its_way_is_waited_for_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    pair.write_both(doc("k"), doc("other"))
    pair.one.write(doc("k", b'{"a":2}'))
    found = pair.run()
    assert (found["result"], found["waiting"], found["passes"]) == ("waiting", 1, 1 + WAITS_MAX)


def test_an_empty_node_that_is_filled_while_it_lists_keeps_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts before, and lists after its peer has answered."""
    monkeypatch.setattr(verifier, "ITEMS_MAX", 20)
    monkeypatch.setattr(verifier, "ANSWERED_MAX", 20)
    kept, visit, ask, pair = 0, walker.Listing.visit, verifier.Verifier._ask, Pair()

    def watched(listing: walker.Listing, row: Walked) -> None:
        nonlocal kept
        visit(listing, row)
        kept = max(kept, len(listing.items), len(listing.keys))

    def filled(self: verifier.Verifier, state: PeerState, run: Run, fresh: bool, ctx: Context) -> None:
        if run.passes == 1:
            pair.write_both(*(doc(f"k{n}") for n in range(300)))
        ask(self, state, run, fresh, ctx)

    monkeypatch.setattr(walker.Listing, "visit", watched)
    monkeypatch.setattr(verifier.Verifier, "_ask", filled)
    assert pair.run()["result"] == "equal"
    assert 20 < kept <= 26
