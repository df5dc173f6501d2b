"""A write names the versions that it replaces: the one its client had read, and all conflicts its node
shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.messages.client import Base, RequestId, Write, Written
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import NAMED_MAX
from entgldb.messages.model import Version
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import rows as merge_rows
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store
from tests.contract.test_merging import NOW, Node


def node(name: str, rule: str = "merge") -> Node:
    made = Node(Store.memory(name, name.encode(), NOW))
    if rule == "merge":
        made.rule("merge")
    return made


def base(at: Node, key: str = "k") -> Base:
    """The base that a client reads now."""
    found = Documents(at.store.connection).read("c", key)
    assert found is not None
    versions = tuple(Written(*version) for version in found.versions())
    return Base(versions, found.text.encode())


def put(at: Node, document: dict[str, Any], read: Base | None = None, key: str = "k") -> Version:
    return at.write(Write("c", key, json.dumps(document).encode(), read))[0]


def lost(at: Node) -> list[Version]:
    return [conflict.version for conflict in at.conflicts()]


def test_a_put_that_names_what_was_read_writes_only_what_was_changed() -> None:
    a = node("a")
    put(a, {"x": 0, "y": 0})
    read = base(a)
    put(a, {"x": 0, "y": 1}, base(a))
    put(a, {"x": 1, "y": 0}, read)
    assert a.get() == {"x": 1, "y": 1}
    assert a.conflicts() == []


def test_a_put_that_names_nothing_is_a_put_of_the_whole_document() -> None:
    a = node("a")
    put(a, {"x": 0, "y": 0})
    put(a, {"x": 0, "y": 1})
    put(a, {"x": 1, "y": 0})
    assert a.get() == {"x": 1, "y": 0}


def test_it_is_as_if_the_reader_had_been_cut_off() -> None:
    """The same two edits, once on one node by a client that read early, once on two that are cut."""
    first = {"o": {"a": 1, "b": 2}, "l": [{"id": 1, "q": 1}, {"id": 2, "q": 1}], "gone": 1, "t": 1}
    mine = {"o": {"a": 5, "b": 2, "mine": 1}, "l": [{"id": 1, "q": 9}, {"id": 3}], "t": [1], "new": {"m": 1}}
    other = {
        "o": {"b": 3, "a": 1},
        "l": [{"id": 2, "q": 7}, {"id": 1, "q": 1}],
        "gone": 2,
        "t": 1,
        "new": {"o": 1},
    }
    a = node("a")
    put(a, first)
    read = base(a)
    b = Node(Store.memory("b", b"b", NOW))
    b.take(a)
    put(b, other)
    c = Node(Store.memory("c", b"c", NOW))
    c.take(a)
    c.store.state.clock = b.store.state.clock + 1  # as a's write comes after b's
    put(c, mine)
    c.take(b)
    a.take(b)
    put(a, mine, read)
    assert a.get() == c.get()
    assert a.get()["o"] == {"a": 5, "b": 3, "mine": 1}
    assert a.get()["new"] == {"m": 1, "o": 1}
    assert [one.collection for one in a.conflicts()] == [one.collection for one in c.conflicts()]
    b.take(a)
    assert b.get() == a.get()
    assert lost(a) == lost(b)


def test_what_a_writer_had_not_read_and_overwrote_is_a_conflict() -> None:
    a, b = node("a"), Node(Store.memory("b", b"b", NOW))
    put(a, {"x": 0})
    read = base(a)
    other = put(a, {"x": 1}, base(a))
    put(a, {"x": 2}, read)
    assert a.get() == {"x": 2}
    assert lost(a) == [other]
    b.take(a)
    assert (b.get(), lost(b)) == (a.get(), lost(a))


def test_what_was_read_and_not_changed_writes_nothing() -> None:
    a = node("a")
    put(a, {"x": 0, "y": 0})
    read = base(a)
    other = put(a, {"x": 1, "y": 0}, read)
    before = a.store.last_lsn()
    assert put(a, {"y": 0, "x": 0}, read) == other
    assert a.store.last_lsn() == before
    assert a.get() == {"x": 1, "y": 0}


def test_over_a_delete_the_document_is_put_whole() -> None:
    a = node("a")
    put(a, {"x": 0, "y": 0})
    read = base(a)
    a.put(None)
    put(a, {"x": 1, "y": 0}, read)
    assert a.get() == {"x": 1, "y": 0}


def test_what_was_read_may_be_gone_from_the_log() -> None:
    a = node("a")
    put(a, {"x": 0, "y": 0})
    read = base(a)
    put(a, {"x": 0, "y": 1})
    a.store.connection.execute("DELETE FROM _entgldb_oplog")
    put(a, {"x": 1, "y": 0}, read)
    assert a.get() == {"x": 1, "y": 1}


def test_only_versions_of_the_very_document_are_named() -> None:
    """Otherwise a client could end conflicts of other documents, or name what no node has."""
    a = node("a")
    put(a, {"x": 0})
    other = put(a, {"z": 0}, key="other")
    read = base(a)
    false = Base((Written(*other), Written("nobody/" + "0" * 32, 7), *read.versions), read.body)
    put(a, {"x": 1}, false)
    assert decode(a.entries()[-1].header).named == {read.versions[0].version}


def test_what_was_read_must_be_a_document() -> None:
    a = node("a")
    put(a, {"x": 0})
    put(a, {"x": 1})
    with pytest.raises(InvalidError):
        put(a, {"x": 2}, Base((), b"[]"))
    assert a.get() == {"x": 1}


def test_in_a_collection_that_does_not_merge_it_changes_nothing() -> None:
    a = node("a", "lww")
    put(a, {"x": 0, "y": 0})
    read = base(a)
    put(a, {"x": 0, "y": 1})
    put(a, {"x": 1, "y": 0}, read)
    assert a.get() == {"x": 1, "y": 0}


@pytest.mark.parametrize("document", [{"who": "again"}, None])
def test_whoever_shows_a_conflict_ends_it_by_writing(document: dict[str, Any] | None) -> None:
    a, b, c = (node(name, "lww") for name in "abc")
    a.put({"who": "a"})
    b.put({"who": "b"})
    a.take(b)
    b.take(a)
    c.take(b)
    assert len(lost(a)) == len(lost(b)) == len(lost(c)) == 1
    b.put(document)
    assert lost(b) == []
    for other in (a, c):
        other.take(b)
        assert lost(other) == []
        assert other.get() == document


def test_a_conflict_that_comes_after_what_ended_it_is_none() -> None:
    a, b, c = (node(name, "lww") for name in "abc")
    a.put({"who": "a"})
    b.put({"who": "b"})
    b.take(a)
    b.put({"who": "both"})
    c.take(b)
    c.take(a)
    assert lost(c) == []
    assert c.get() == {"who": "both"}


def test_more_conflicts_than_an_entry_can_name_go_by_the_next_ones() -> None:
    a = node("a", "lww")
    for number in range(NAMED_MAX + 3):
        other = node(f"b{number}", "lww")
        other.put({"who": number})
        a.take(other)
    assert len(lost(a)) == NAMED_MAX + 2
    a.put({"who": "a"})
    header = decode(a.entries()[-1].header)
    assert len(header.seen) == NAMED_MAX
    assert len(lost(a)) == 2
    a.put({"who": "a again"})
    assert lost(a) == []
    b = node("b", "lww")
    b.take(a)
    assert (b.get(), lost(b)) == ({"who": "a again"}, [])


def test_a_request_id_is_still_one_write() -> None:
    a = node("a")
    put(a, {"x": 0})
    read = base(a)
    request = RequestId(b"r" * 16, 1)
    for _ in range(2):
        with a.store.group():
            known = a.store.answered(request)
            if known is None:
                a.store.write(request, (Write("c", "k", b'{"x":1}', read),), NOW)
    assert len(a.entries()) == 3


def test_a_document_that_is_written_whole_for_its_length_keeps_what_was_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge_rows, "HISTORY_BYTES_MAX", 0)
    a = node("a")
    put(a, {"x": 0, "y": 0, "z": 0})
    read = base(a)
    put(a, {"x": 0, "y": 1, "z": 0}, base(a))
    put(a, {"x": 1, "y": 0, "z": 0}, read)
    assert a.get() == {"x": 1, "y": 1, "z": 0}


BOTH = {"t": [{"id": 1, "q": 0}, {"id": 2, "q": 0}]}


@pytest.mark.parametrize("stands", [{"x": 1, "t": [BOTH["t"][1]]}, {"x": 1, "t": 5}, {"x": 1}])
@pytest.mark.parametrize("expires", [False, True])
def test_what_a_client_changed_shows_where_it_is_written_whole_without_the_element_that_it_changed(
    monkeypatch: pytest.MonkeyPatch, stands: dict[str, Any], expires: bool
) -> None:
    """Below a put that expires, or for its length: nothing waits for the element there."""
    a = node("a", "lww" if expires else "merge")
    put(a, BOTH)
    read = base(a)
    if expires:
        a.write(Write("c", "k", json.dumps(stands).encode(), expire_after=60_000))
        a.rule("merge")
    else:
        put(a, stands, base(a))
        monkeypatch.setattr(merge_rows, "HISTORY_BYTES_MAX", 0)
    wanted = {"t": [{"id": 1, "q": 9}, BOTH["t"][1]]}
    put(a, wanted, read)
    assert a.get() == {"x": 1} | wanted
    b = node("b", "lww")
    b.take(a)
    assert (b.get(), lost(b)) == (a.get(), lost(a))
