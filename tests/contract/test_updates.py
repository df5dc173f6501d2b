"""``Store``: updates of documents that stand, under both rules; where they merge, on several nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.client import FieldOperation, RequestId, Write, Written
from entgldb.messages.errors import EntglError, ExistsError, InvalidError, TooLargeError, VersionError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX, GROUP_ENTRIES_MAX, MERGE_BYTES_MAX
from entgldb.messages.model import Version
from entgldb.storage.log import rows
from entgldb.storage.rules.header import MERGE, PUT, decode
from entgldb.storage.rules.updating.apply import apply
from entgldb.storage.rules.updating.parse import read_update
from entgldb.storage.store import Store
from tests.contract.test_merging import NOW, Make, Node, make, pair
from tests.unit.storage.rules.updating.test_updates import DOCUMENTS, STEPS

__all__ = ["make"]
RULES = ["lww", "merge"]


@pytest.fixture(params=RULES)
def node(request: pytest.FixtureRequest, make: Make) -> Node:
    """A node whose collection ``c`` has one of the two rules."""
    made = make("a")
    made.rule(request.param)
    return made


def update(operators: Any, key: str = "k", expects: Version | None = None, *, upsert: bool = False) -> Write:
    expected = None if expects is None else Written(*expects)
    return Write("c", key, None, None, (), expected, json.dumps(operators).encode(), upsert)


def where(filter: Any, collation: str | None = None) -> bytes:
    return json.dumps([filter, collation]).encode()


def do(node: Node, operators: Any, key: str = "k", *, upsert: bool = False) -> Version:
    (version,) = node.write(update(operators, key, upsert=upsert))
    return version


def test_an_update_changes_the_document_that_stands(node: Node) -> None:
    first = node.put({"n": 1, "tags": ["b"], "old": True})
    made = do(node, {"$inc": {"n": 2}, "$addToSet": {"tags": "a"}, "$unset": {"old": ""}, "$set": {"x.y": 1}})
    assert (made.origin, made.seq) == (first.origin, first.seq + 1), "one entry for all of it"
    assert node.get() | {"tags": sorted(node.get()["tags"])} == {"n": 3, "tags": ["a", "b"], "x": {"y": 1}}


def test_an_update_that_meets_no_document_makes_none_unless_it_may(node: Node) -> None:
    before = node.entries()
    assert do(node, {"$inc": {"n": 1}}).seq == 0
    assert node.entries() == before
    assert do(node, {"$inc": {"n": 1}, "$set": {"a": {}}}, upsert=True).seq > 0
    assert node.get() == {"n": 1, "a": {}}
    do(node, {"$inc": {"n": 1}}, upsert=True)
    assert node.get() == {"n": 2, "a": {}}
    node.put(None)
    assert do(node, {"$inc": {"n": 1}}).seq == 0
    do(node, {"$inc": {"n": 5}}, upsert=True)
    assert node.get() == {"n": 5}, "what was deleted does not come back"
    do(node, {"$unset": {"no.such": ""}}, "empty", upsert=True)
    assert node.get(key="empty") == {}


def test_an_update_that_changes_nothing_makes_no_entry_and_names_what_stands(node: Node) -> None:
    first = node.put({"n": 1, "tags": ["a"]})
    before = node.entries()
    for nothing in ({"$set": {"n": 1}}, {"$inc": {"n": 0}}, {"$max": {"n": 0}}, {"$pull": {"tags": "x"}}):
        assert do(node, nothing) == first
    assert node.entries() == before


def test_an_update_meets_what_the_writes_before_it_in_its_commit_leave(node: Node) -> None:
    node.put({"n": 1})
    inc, gone = update({"$inc": {"n": 1}}), Write("c", "k", None)
    assert [one.seq > 0 for one in node.write(inc, inc, Write("c", "k", b'{"n":10}'), inc)] == [True] * 4
    assert node.get() == {"n": 11}
    assert [one.seq > 0 for one in node.write(gone, inc)] == [True, False]
    made = node.write(update({"$inc": {"n": 1}}, upsert=True), inc, inc)
    assert [one.seq - made[0].seq for one in made] == [0, 1, 2]
    assert node.get() == {"n": 3}
    last = node.write(update({"$set": {"n": 4}}), update({"$set": {"n": 3}}), Write("c", "k", b'{"n":3}'))
    assert node.get() == {"n": 3}
    assert last[1].seq == last[0].seq + 1, "it changes what the first has made"
    with pytest.raises(VersionError, match="changed by the same commit"):
        node.write(inc, update({"$inc": {"n": 1}}, expects=last[2]))


def test_a_put_of_what_had_stood_undoes_the_operation_before_it_in_its_commit(make: Make) -> None:
    node = make("a")
    node.rule("merge")
    node.put({"n": 1})
    operation = Write("c", "k", None, None, (FieldOperation("inc", ("n",), b"5"),))
    node.write(operation, Write("c", "k", b'{"n":1}'))
    assert node.get() == {"n": 1}


def test_an_update_may_be_meant_for_one_version(node: Node) -> None:
    first = node.put({"n": 1})
    (second,) = node.write(update({"$inc": {"n": 1}}, expects=first))
    with pytest.raises(VersionError):
        node.write(update({"$inc": {"n": 1}}, expects=first))
    with pytest.raises(ExistsError):
        node.write(update({"$inc": {"n": 1}}, expects=Version("", 0), upsert=True))
    node.write(update({"$inc": {"n": 1}}, "new", Version("", 0), upsert=True))
    assert (node.get(), node.get(key="new"), second.seq) == ({"n": 2}, {"n": 1}, first.seq + 1)


def test_a_write_with_a_filter_is_done_where_the_document_still_matches(node: Node) -> None:
    node.put({"n": 1, "name": "Ada"})
    before = node.entries()
    inc, mine = b'{"$inc":{"n":1}}', where({"name": "ADA"}, "nocase")
    made = node.write(
        Write("c", "k", None, update=inc, where=where({"n": {"$gt": 1}})),
        Write("c", "none", None, update=inc, where=mine),
        Write("c", "none", None, where=where({})),
    )
    assert [one.seq for one in made] == [0, 0, 0]
    assert node.entries() == before
    (first,) = node.write(Write("c", "k", None, update=inc, where=mine))
    assert (first.seq > 0, node.get()["n"]) == (True, 2)
    assert node.write(Write("c", "k", None, where=where({"n": 1})))[0].seq == 0
    node.write(Write("c", "k", None, where=where({"n": 2})))
    assert node.get() is None


def test_a_filter_that_cannot_be_is_refused(node: Node) -> None:
    node.put({"n": 1})
    inc = b'{"$inc":{"n":1}}'
    for bad, said in (
        (where({"n": {"$near": 1}}), "near"),
        (where({}, "klingon"), "collation"),
        (b"{}", "an array of itself and its collation"),
        (b"[1, null]", "an array of itself and its collation"),
        (b"\xff", "no JSON"),
        (b'[{"a":"%s"},null]' % (b"x" * BODY_BYTES_MAX), "a filter of"),
        (b'[{"a":1,"a":2},null]', "twice"),
    ):
        with pytest.raises(EntglError, match=said):
            node.write(Write("c", "k", None, update=inc, where=bad))
    with pytest.raises(InvalidError, match="makes no document"):
        node.write(Write("c", "k", None, update=inc, where=where({}), upsert=True))
    with pytest.raises(InvalidError, match="c/k is written before"):
        node.write(Write("c", "k", b"{}"), Write("c", "k", None, where=where({})))


def test_an_update_that_does_not_fit_undoes_its_commit(node: Node) -> None:
    node.put({"n": "text"})
    before = node.entries()
    for bad, said in (
        ({"$inc": {"n": 1}}, "it is a text, not a number"),
        ({"$push": {"n": 1}}, "it is a text, not an array"),
        ({"$set": {"n.m": 1}}, "n is a text: it can have no m"),
    ):
        with pytest.raises(InvalidError, match=said):
            node.write(Write("c", "other", b"{}"), update(bad))
    for both in (
        Write("c", "k", b"{}", update=b'{"$set":{"a":1}}'),
        Write("c", "k", None, None, (FieldOperation("inc", ("m",), b"1"),), None, b'{"$set":{"a":1}}'),
    ):
        with pytest.raises(InvalidError, match="only one of them"):
            node.write(both)
    assert node.entries() == before


def test_a_repeated_update_is_done_once(node: Node) -> None:
    node.put({"n": 1})
    store, request = node.store, RequestId(b"d" * 16, 1)
    with store.group():
        done = store.write(request, (update({"$inc": {"n": 1}}), update({"$inc": {"n": 1}}, "none")), NOW)
    with store.group():
        assert store.answered(request) == done
    assert [one.seq > 0 for one in done[0]] == [True, False]


def test_the_limits_of_a_document_hold_for_what_an_update_makes(node: Node) -> None:
    fill = "x" * (BODY_BYTES_MAX - len('{"a":"","b":""}'))
    node.put({"a": fill})
    do(node, {"$set": {"b": ""}})
    with pytest.raises(TooLargeError, match=f"c/k would have {BODY_BYTES_MAX + 1} bytes"):
        do(node, {"$set": {"b": "x"}})
    path = ".".join("d" * (DEPTH_MAX - 1))
    do(node, {"$set": {path: {}}}, "deep", upsert=True)
    with pytest.raises(InvalidError, match="c/deep is nested deeper than"):
        do(node, {"$set": {path: [[]]}}, "deep")
    node.put({"n": 10**4000}, key="long")
    with pytest.raises(TooLargeError, match="c/long would have a number without end"):
        do(node, {"$mul": {"n": 10**4000}}, "long")
    many = {"$addToSet": {"tags": {"$each": list(range(GROUP_ENTRIES_MAX + 1))}}}
    with pytest.raises(InvalidError, match=f"a commit of {GROUP_ENTRIES_MAX + 1} writes"):
        do(node, many, "many", upsert=True)


def test_integers_are_exact_and_a_fraction_makes_a_fraction(node: Node) -> None:
    node.put({"n": 2**70, "f": 0.5, "i": 7})
    do(node, {"$inc": {"n": 1, "f": 1, "i": 0.5}})
    assert node.get() == {"n": 2**70 + 1, "f": 1.5, "i": 7.5}
    do(node, {"$mul": {"n": 3}})
    assert node.get()["n"] == 3 * (2**70 + 1)


def test_where_the_last_write_wins_an_update_is_a_put(make: Make) -> None:
    a, b = make("a"), make("b")
    a.put({"b": 1, "a": 2})
    do(a, {"$inc": {"a": 1}})
    last = a.entries()[-1]
    assert (decode(last.header).op, last.body) == (PUT, b'{"b":1,"a":3}')
    b.take(a)
    assert b.get() == a.get()


def test_where_it_merges_an_update_is_one_entry_of_operations_and_fields(make: Make) -> None:
    a, _ = pair(make, document={"n": 1, "tags": ["b"], "x": 1})
    do(a, {"$inc": {"n": 2}, "$addToSet": {"tags": "a"}, "$set": {"x": 2}, "$rename": {"no": "such"}})
    last = a.entries()[-1]
    assert decode(last.header).op == MERGE
    assert json.loads(last.body or b"") == {"change": {".n": {"+": 2}, ".tags": {'*"a"': 1}, ".x": 2}}


def test_concurrent_updates_add_up_where_they_merge(make: Make) -> None:
    a, b = pair(make, document={"stock": 10, "tags": ["x"], "log": [], "by": {}})
    do(a, {"$inc": {"stock": -3}, "$addToSet": {"tags": "a"}, "$set": {"by.a": 1}})
    do(b, {"$inc": {"stock": -2}, "$addToSet": {"tags": {"$each": ["b", "c"]}}})
    do(b, {"$set": {"by.b": 1}, "$pull": {"tags": "x"}})
    a.take(b)
    b.take(a)
    merged = {"stock": 5, "tags": ["a", "b", "c"], "log": [], "by": {"a": 1, "b": 1}}
    assert a.get() == b.get() == merged
    assert a.conflicts() == b.conflicts() == []


def test_an_element_that_is_added_again_outlives_a_removal_elsewhere(make: Make) -> None:
    a, b = pair(make, document={"tags": ["x"]})
    do(a, {"$addToSet": {"tags": "x"}})
    do(b, {"$pull": {"tags": "x"}})
    a.take(b)
    b.take(a)
    assert a.get() == b.get() == {"tags": ["x"]}


def test_elements_are_taken_out_by_a_condition_one_by_one(make: Make) -> None:
    a, b = pair(make, document={"scores": [1, 5, 9]})
    do(a, {"$pull": {"scores": {"$gt": 4}}})
    assert json.loads(a.entries()[-1].body or b"")["change"].keys() == {".scores"}
    do(b, {"$addToSet": {"scores": 9}})
    a.take(b)
    b.take(a)
    assert a.get() == b.get() == {"scores": [1, 9]}, "9 was added again"


def test_elements_that_merge_by_id_are_fields_and_no_set(make: Make) -> None:
    a, b = pair(make, document={"items": [{"id": 1, "n": 1}]})
    do(a, {"$addToSet": {"items": {"id": 2, "n": 1}}})
    do(b, {"$inc": {"items.0.n": 4}})
    do(b, {"$push": {"items": {"id": 3, "n": 1}}})
    a.take(b)
    b.take(a)
    assert a.get() == b.get()
    assert sorted(one["n"] for one in a.get()["items"]) == [1, 1, 5]


def test_a_document_that_outgrew_a_write_can_be_made_smaller(make: Make) -> None:
    half = BODY_BYTES_MAX // 2
    a, b = pair(make, document={"a": "", "b": "", "c": 1})
    do(a, {"$set": {"a": "x" * half}})
    do(b, {"$set": {"b": "y" * half}})
    a.take(b)
    with pytest.raises(TooLargeError, match="c/k would have"):
        do(a, {"$set": {"c": 10}})
    do(a, {"$unset": {"b": ""}})
    assert set(a.get()) == {"a", "c"}
    assert len(a.entries()[-1].body or b"") < MERGE_BYTES_MAX


def test_an_update_of_fields_sheds_a_memory_that_has_grown_too_large(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(make, document={"n": 1, "x": 1})
    do(a, {"$inc": {"n": 1}, "$unset": {"x": ""}})
    monkeypatch.setattr(rows, "HISTORY_BYTES_MAX", 1)
    do(a, {"$inc": {"n": 1}})
    assert "-" not in json.loads(a.entries()[-1].body or b"")["change"]
    do(a, {"$inc": {"n": 1}, "$set": {"y": 1}})
    assert json.loads(a.entries()[-1].body or b"") == {"change": {"-": 1, ".n": 4, ".y": 1}}
    b.take(a)
    assert a.get() == b.get() == {"n": 4, "y": 1}


def plain(document: Any) -> Any:
    """A document in which the order of arrays, and what stands in them twice, mean nothing."""
    if type(document) is dict:
        return {name: plain(value) for name, value in document.items()}
    if type(document) is list:
        return sorted({json.dumps(plain(value), sort_keys=True) for value in document})
    return document


@settings(deadline=None)
@given(DOCUMENTS, st.lists(st.lists(STEPS, min_size=1, max_size=3), max_size=3))
def test_any_update_shows_as_the_rule_says_and_alike_on_another_node(
    document: Any, updates: list[list[tuple[str, str, Any]]]
) -> None:
    """Where documents merge sets are in an order of their own."""
    nodes = [Node(Store.memory(name, name.encode(), NOW)) for name in ("a", "b", "c", "d")]
    for here, there, rule, shown in zip(nodes[::2], nodes[1::2], RULES, (json.dumps, plain), strict=True):
        here.rule(rule)
        here.put(document)
        for steps in updates:
            said: dict[str, dict[str, Any]] = {}
            for operator, path, value in steps:
                said.setdefault(operator, {})[path] = value
            wanted = here.get()
            try:
                apply(read_update(json.dumps(said).encode()), wanted)
            except EntglError:
                with pytest.raises(EntglError):
                    do(here, said)
            else:
                do(here, said)
                assert shown(here.get()) == shown(wanted)
        there.take(here)
        assert there.get() == here.get()
    for node in nodes:
        node.store.close()
