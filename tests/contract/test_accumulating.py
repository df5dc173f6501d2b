"""``Store`` where fields accumulate: counters and sets, in whatever order their operations come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.messages.client import Base, FieldOperation, Write, Written
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DEPTH_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import Version
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.header import MERGE, decode
from entgldb.storage.rules.merging.row import read_merging
from entgldb.storage.store import Store
from tests.contract.test_merging import NOW, Make, Node, make, pair
from tests.unit.storage.snapshot.snapshots import forget, send

__all__ = ["make"]


def do(node: Node, verb: str, value: Any, *path: str, key: str = "k") -> Version:
    (version,) = node.write(Write("c", key, None, None, (operation(verb, value, *path),)))
    return version


def operation(verb: str, value: Any, *path: str) -> FieldOperation:
    return FieldOperation(verb, path, json.dumps(value).encode())


def meet(*nodes: Node) -> Any:
    """All have everything; what they all show."""
    for one in nodes:
        one.take(*(two for two in nodes if two is not one))
    shown = [node.get() for node in nodes]
    assert shown == [shown[0]] * len(nodes)
    return shown[0]


def test_two_shops_that_sell_from_one_stock_end_with_the_right_number(make: Make) -> None:
    a, b = pair(make, document={"stock": 10})
    for _ in range(3):
        do(a, "inc", -1, "stock")
    do(b, "inc", -2, "stock")
    assert (a.get(), b.get()) == ({"stock": 7}, {"stock": 8})
    assert meet(a, b) == {"stock": 5}
    assert a.conflicts() == b.conflicts() == []
    do(b, "inc", 20, "stock")
    assert meet(a, b) == {"stock": 25}


def test_a_commit_of_too_many_operations_is_refused_and_changes_nothing(make: Make) -> None:
    a, _ = pair(make, document={"stock": 10})
    once = operation("inc", 1, "stock")
    with pytest.raises(InvalidError, match=f"a commit of {GROUP_ENTRIES_MAX + 1} writes"):
        a.write(Write("c", "k", None, None, (once,) * GROUP_ENTRIES_MAX), Write("c", "other", None))
    assert a.get() == {"stock": 10}
    a.write(Write("c", "k", None, None, (once,) * GROUP_ENTRIES_MAX))
    assert a.get() == {"stock": 10 + GROUP_ENTRIES_MAX}


def test_the_entry_says_how_far_the_run_of_its_writer_is(make: Make) -> None:
    a, _ = pair(make, document={"stock": 10})
    do(a, "inc", 4, "stock")
    do(a, "inc", 5, "stock")
    two, three = a.entries()[-2:]
    assert decode(three.header).op == MERGE
    start = decode(two.header).hlc
    assert json.loads(two.body or b"") == {"change": {".stock": {"+": 4}}}
    assert json.loads(three.body or b"") == {"change": {".stock": {f"+{start:x}@{a.store.origin}": 9}}}
    assert a.history().versions[0].document == {"stock": 19}


def test_a_counter_and_what_is_above_it_are_made_where_nothing_is(make: Make) -> None:
    a, b = pair(make, document={})
    do(a, "inc", 1, "sold", "today")
    do(b, "inc", 2, "sold", "today")
    do(b, "inc", 5, "n", key="new")
    assert meet(a, b) == {"sold": {"today": 3}}
    assert a.get(key="new") == {"n": 5}


def test_a_number_put_over_a_counter_says_by_how_much_it_changed(make: Make) -> None:
    a, b = pair(make, document={"stock": 10, "name": "tea"})
    do(a, "inc", -1, "stock")
    meet(a, b)
    do(a, "inc", -2, "stock")
    b.put({"stock": 8, "name": "green tea"})
    assert meet(a, b) == {"stock": 6, "name": "green tea"}
    assert a.conflicts() == b.conflicts() == []


def test_what_was_changed_of_an_old_reading_goes_into_the_counter_and_set_that_stand_now(make: Make) -> None:
    a, _ = pair(make, document={"stock": 10, "tags": ["x", "y"]})
    read = Documents(a.store.connection).read("c", "k")
    assert read is not None
    do(a, "inc", 5, "stock")
    do(a, "add", "new", "tags")
    base = Base(tuple(Written(*version) for version in read.versions()), read.text.encode())
    a.write(Write("c", "k", b'{"stock":9,"tags":["y","z"]}', base))
    assert a.get() == {"stock": 14, "tags": ["new", "y", "z"]}
    assert a.conflicts() == []


@pytest.mark.parametrize(
    ("put", "shown"),
    [({"name": "tea"}, None), ({"stock": "much"}, "much"), ({"stock": 1.5}, 1.5), ({"stock": {}}, {})],
)
def test_a_removal_takes_the_increments_with_it_and_those_it_did_not_know_are_conflicts(
    make: Make, put: Any, shown: Any
) -> None:
    a, b = pair(make, document={"stock": 10})
    do(a, "inc", 1, "stock")
    do(b, "inc", 2, "stock")
    meet(a, b)
    lost = do(a, "inc", 4, "stock")
    b.put(put)
    assert meet(a, b).get("stock") == shown
    assert [one.version for one in a.conflicts()] == [one.version for one in b.conflicts()] == [lost]
    a.resolve(a.conflicts()[0], "loser")
    assert meet(a, b)["stock"] == 5
    assert a.conflicts() == b.conflicts() == []
    if shown is None:
        do(b, "inc", 3, "stock")
        assert meet(a, b)["stock"] == 8


def test_an_adding_wins_over_a_removal_that_did_not_know_it(make: Make) -> None:
    a, b = pair(make, document={"tags": ["red", "tea"]})
    do(a, "add", "red", "tags")
    do(b, "remove", "red", "tags")
    do(b, "add", 7, "tags")
    assert (a.get()["tags"], b.get()["tags"]) == (["red", "tea"], [7, "tea"])
    assert meet(a, b) == {"tags": [7, "red", "tea"]}
    do(b, "remove", "red", "tags")
    assert meet(a, b) == {"tags": [7, "tea"]}
    assert a.conflicts() == b.conflicts() == []


def test_a_set_shows_its_elements_in_one_order_whoever_added_them(make: Make) -> None:
    a, b = pair(make, document={})
    for element in ("b", 10, True, None):
        do(a, "add", element, "s")
    for element in ("a", 9.5, False, 1, 1.0, "b"):
        do(b, "add", element, "s")
    assert json.dumps(meet(a, b)["s"]) == '[null, false, true, 1, 1.0, 9.5, 10, "a", "b"]'
    for element in (None, False, True, 1, 1.0, 9.5, 10, "a", "b"):
        do(a, "remove", element, "s")
    assert meet(a, b) == {"s": []}


def test_an_array_put_over_a_set_adds_and_removes(make: Make) -> None:
    a, b = pair(make, document={})
    do(a, "add", "x", "s")
    meet(a, b)
    a.put({"s": ["y", "x"]})
    b.put({"s": ["z"]})
    assert meet(a, b) == {"s": ["y", "z"]}
    # what is no set any more is one value
    a.put({"s": [{"n": 1}]})
    assert meet(a, b) == {"s": [{"n": 1}]}


def test_several_operations_are_one_entry_and_the_last_says_what_becomes_of_an_element(make: Make) -> None:
    a, _ = pair(make, document={})
    many = [
        operation("inc", 2, "n"),
        operation("inc", 3, "n"),
        operation("add", "x", "s"),
        operation("add", "y", "s"),
        operation("remove", "x", "s"),
        operation("remove", "never there", "t", "u"),
    ]
    before = len(a.entries())
    a.write(Write("c", "k", None, None, tuple(many)))
    assert a.get() == {"n": 5, "s": ["y"]}
    assert len(a.entries()) == before + 1


def test_a_deleted_document_begins_anew_and_one_who_did_not_know_finds_it_whole(make: Make) -> None:
    a, b = pair(make, document={"stock": 10})
    do(a, "inc", 1, "stock")
    meet(a, b)
    a.put(None)
    do(a, "inc", 4, "stock")
    assert a.get() == {"stock": 4}
    assert meet(a, b) == {"stock": 4}
    a.put(None)
    do(b, "inc", 2, "stock")
    assert meet(a, b) == {"stock": 6}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (operation("mul", 2, "n"), "none of inc, add, remove"),
        (operation("inc", 1), "a path of 0 names"),
        (operation("inc", 1, *"n" * DEPTH_MAX), f"a path of {DEPTH_MAX} names"),
        (operation("inc", 1.5, "n"), "cannot be incremented by 1.5"),
        (operation("inc", True, "n"), "cannot be incremented by true"),
        (operation("inc", 2**63, "n"), "cannot be incremented"),
        (operation("inc", 1, "name"), "is no counter"),
        (operation("inc", 1, "huge"), "is no counter"),
        (operation("inc", 1, "name", "x"), "name is no object"),
        (operation("inc", 1, "n\0"), "NUL"),
        (operation("add", [1], "s"), "is no scalar"),
        (operation("add", 1, "name"), "is no set"),
        (operation("add", 1, "items"), "is no set"),
        (FieldOperation("inc", ("n",), b"{"), "is no JSON"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    make: Make, what: FieldOperation, text: str
) -> None:
    a, _ = pair(make, document={"n": 1, "name": "x", "items": [{"id": 1}], "huge": 2**63})
    before = a.entries()
    with pytest.raises(InvalidError, match=text), a.store.group(), a.store.savepoint():
        a.store.write(a.request(), [Write("c", "k", None, None, (what,))], NOW)
    assert a.entries() == before


def test_an_operation_stands_alone_and_needs_a_collection_that_merges(make: Make) -> None:
    a, _ = pair(make, rule="lww", document={"n": 1})
    inc = (operation("inc", 1, "n"),)
    for write, text in [
        (Write("c", "k", b"{}", None, inc), "only one of them"),
        (Write("c", "k", None, None, inc), "does not merge"),
    ]:
        with pytest.raises(InvalidError, match=text), a.store.group(), a.store.savepoint():
            a.store.write(a.request(), [write], NOW)
    assert a.get() == {"n": 1}


def test_one_place_is_a_counter_or_a_set(make: Make) -> None:
    a, _ = pair(make, document={})
    both = (operation("inc", 1, "n"), operation("add", 1, "n"))
    with pytest.raises(InvalidError, match="and something else"), a.store.group(), a.store.savepoint():
        a.store.write(a.request(), [Write("c", "k", None, None, both)], NOW)
    twice = (operation("inc", 2**62, "n"), operation("inc", 2**62, "n"))
    with pytest.raises(InvalidError, match="more than 64 bits"), a.store.group(), a.store.savepoint():
        a.store.write(a.request(), [Write("c", "k", None, None, twice)], NOW)


def test_a_counter_goes_beyond_64_bits_by_another_run(make: Make) -> None:
    a, b = pair(make, document={})
    do(a, "inc", 2**63 - 1, "n")
    do(b, "inc", 2**63 - 1, "n")
    assert meet(a, b) == {"n": 2**64 - 2}
    with pytest.raises(InvalidError, match="is no counter"):
        do(a, "inc", 1, "n")
    a.put({"n": 2**63 - 2})
    do(a, "inc", 1, "n")
    assert meet(a, b) == {"n": 2**63 - 1}


@pytest.mark.parametrize(
    "change",
    [
        {"+": 1},
        {'*"x"': 1},
        {".n": {"+": 1.5}},
        {".n": {"+": True}},
        {".n": {"+": 2**63}},
        {".n": {"+zz@o": 1}},
        {".n": {"+5": 1}},
        {".n": {"+05@o": 1}},
        {".n": {f"+{2**62:x}@o": 1}},
        {".s": {"*x": 1}},
        {".s": {"*[]": 1}},
        {".s": {"*1 ": 1}},
        {".s": {"*1": 2}},
        {".s": {"*1": {"@": 2}}},
        {".s": {"*1": {"x": 1}}},
        {".s": {"*1": {"@o": 2**62}}},
        {".s": {"@o": 1}},
    ],
)
def test_what_nobody_can_have_written_is_refused(change: Any) -> None:
    with pytest.raises(InvalidError):
        read_merging(json.dumps({"change": change}), (2**61, "o"))


def test_own_increments_that_are_issued_again_count_once(make: Make) -> None:
    """After a snapshot a node's unseen writes go on under a new name, from a run that others know and in one
    that they do not."""
    giver, taker = pair(make, document={"n": 1, "s": ["x"]})
    do(taker, "inc", 10, "n")
    do(taker, "add", "y", "s")
    meet(giver, taker)
    for _ in range(2):
        do(taker, "inc", 100, "n")
        do(taker, "inc", 5, "m")
        do(taker, "add", "y", "s")
        do(taker, "add", "z", "s")
    do(taker, "remove", "z", "s")
    do(giver, "inc", 1000, "n")
    shown = {"n": 1211, "m": 10, "s": ["x", "y"]}
    forget(giver.store, tombstones=False)
    assert send(giver.store, taker.store, NOW).reborn
    assert taker.get() == shown
    assert meet(giver, taker) == shown
    assert stamps(giver.store) == stamps(taker.store)
    do(giver, "remove", "y", "s")
    do(taker, "inc", 1, "m")
    assert meet(giver, taker) == {"n": 1211, "m": 11, "s": ["x"]}


def stamps(store: Store) -> Any:
    row = store.connection.execute("SELECT body, stamps FROM _entgldb_documents WHERE key = 'k'").fetchone()
    return tuple(row)
