"""Changes: two edits at once, and changes found between documents, split, saved, at few steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.merging.changes import (
    as_read,
    check_change,
    difference,
    edits_absent,
    plant,
    same,
    split,
    whole,
    with_elements,
)
from entgldb.storage.rules.merging.row import Merging, absorb, operation, read_merging
from entgldb.storage.rules.merging.stored import Tip, load, save
from entgldb.storage.rules.merging.tree import render, settle, text_of, union
from tests.support.calls import calls_of
from tests.unit.storage.rules.merge_rig import ORIGINS, Writer, documents, fold


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


ONE: dict[str, Any] = {"t": [{"id": 1, "q": 1, "in": [{"id": 7, "q": 1}]}]}


def one_with(field: str, value: Any) -> dict[str, Any]:
    return {"t": [ONE["t"][0] | {field: value}]}


@pytest.mark.parametrize(
    ("new", "stands", "wanted"),
    [
        (one_with("q", 2), {}, True),
        (one_with("q", 2), {"t": 5}, True),
        (one_with("q", 2), {"t": {"z": 1}}, True),
        (one_with("q", 2), {"t": [{"id": 2}]}, True),
        (one_with("q", 2), {"t": [{"id": 1}, {"id": 2}]}, False),
        (one_with("in", [{"id": 7, "q": 2}]), one_with("in", []), True),
        (one_with("in", [{"id": 7, "q": 1}, {"id": 8}]), one_with("in", []), False),
        ({"t": [*ONE["t"], {"id": 2}]}, {}, False),
        ({"t": []}, {}, False),
        ({}, {}, False),
    ],
)
def test_an_edit_of_an_element_that_is_gone_is_known(new: Any, stands: Any, wanted: bool) -> None:
    tree = plant(whole(stands), (9, "b"))
    change = difference(ONE, new, as_read(ONE, tree))
    assert edits_absent(change, tree) is wanted
    shown = render(settle(union(tree, plant(change, (10, "a")))))
    assert not wanted or same(shown, stands)
    made = with_elements(change, tree)
    assert not edits_absent(made, tree)
    assert wanted or made == change


@pytest.mark.parametrize(
    ("item", "stands", "wanted"),
    [
        ("#i1", {}, [{"id": 1, "q": 2}]),
        ("#i1", {"t": 5}, [{"id": 1, "q": 2}]),
        ("#f1.5", {"t": [{"id": 1.0}]}, [{"id": 1.0}, {"id": 1.5, "q": 2}]),
        ("#sx", {"t": [{"_id": "y"}]}, [{"_id": "y"}, {"_id": "x", "q": 2}]),
        ("#", {}, [{"q": 2}]),
        ("#ix", {}, [{"q": 2}]),
        ("#finf", {}, [{"q": 2}]),
    ],
)
def test_an_edit_makes_the_element_that_is_gone(item: str, stands: Any, wanted: Any) -> None:
    tree = plant(whole(stands), (9, "b"))
    change = with_elements({".t": {item: {".q": 2}}}, tree)
    assert render(settle(union(tree, plant(change, (10, "a"))))) == {"t": wanted}


def test_making_elements_looks_at_a_long_array_once() -> None:
    tree = plant(whole({"t": [{"id": number} for number in range(300)]}), (9, "b"))
    change = {".t": {f"#i{number}": {".q": 2} for number in range(300, 600)}}
    assert calls_of(lambda: with_elements(change, tree)) <= 3_000


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

    def merge() -> None:
        row = load(Tip(ORIGINS[0], 1, 1), body, stamps)
        one = operation(tip, frozenset((row.newest.version,)), read_merging(text, tip.stamp))
        save(absorb(row, one).stored)

    assert calls_of(merge) <= calls_max


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
            check_change(part, 40, (HLC_MAX, "~"))
            made = settle(union(made, plant(part, (2 + number, "b"))))
        assert same(render(made), after)
        assert len(parts) == 1 or size < len(text_of(change).encode()) + 8
