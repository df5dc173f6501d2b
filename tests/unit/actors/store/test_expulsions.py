"""Expelling a node: who may be, once, and in whose name it is said again."""

from __future__ import annotations

import json

import pytest

from entgldb.actors.store.members import expulsions
from entgldb.messages.administration import ExpelNode
from entgldb.messages.client import CommitDone, Refused, Write
from entgldb.messages.limits import BODY_BYTES_MAX, ORIGINS_MAX
from entgldb.messages.local.actors import Apply
from entgldb.messages.local.members import NoteSelf
from entgldb.messages.model import EXPELLED, NODES, Entry
from entgldb.messages.schema import Message
from entgldb.storage.file.state import State
from entgldb.storage.rules.ended import (
    PROOFS_MAX,
    any_log,
    ending,
    read_ending,
    read_expulsion,
    said_in,
    signatures_in,
)
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store
from tests.unit.actors.store.test_store_keeper import NOW, Bench

OTHER = "n2/" + "2" * 32


def expel(bench: Bench, node_id: str) -> Message:
    return bench.ask(ExpelNode(bench.request(), node_id))[0]


def refusal(bench: Bench, node_id: str) -> str:
    told = expel(bench, node_id)
    assert isinstance(told, Refused)
    return told.text


def test_a_node_expels_neither_itself_nor_one_that_nobody_knows() -> None:
    bench = Bench()
    assert "itself" in refusal(bench, "n1")
    assert "no node n2" in refusal(bench, "n2")


def test_an_expulsion_is_said_once_by_each_node_and_stands_in_the_file() -> None:
    bench = Bench()
    known(bench, "n2")
    done = expel(bench, "n2")
    assert isinstance(done, CommitDone)
    assert done.lsn > 0
    assert bench.store.expelled() == {"n2"}
    assert list(said_in(bench.store.get(EXPELLED, ending(any_log("n2"), 0)))["Said"]) == ["n1"]
    assert expel(bench, "n2") == CommitDone((), 0)


def test_what_others_have_said_is_said_again_in_the_own_log_and_nothing_of_this_node_itself() -> None:
    bench = Bench()
    for name in ("n2", "n1"):
        key = ending(any_log(name), 0)
        with bench.store.group():
            bench.store.write(bench.request(), [write(key)], 0, system=True)
    assert bench.store.expelled() == {"n2"}
    bench.ask(NoteSelf())
    said = {key: said_in(body)["Said"] for key, body in bench.store.documents(EXPELLED)}
    assert sorted(said[ending(any_log("n2"), 0)]) == ["n1", "n3"]
    assert sorted(said[ending(any_log("n1"), 0)]) == ["n3"]
    last = bench.store.last_lsn()
    bench.ask(NoteSelf())
    assert bench.store.last_lsn() == last


def test_a_word_that_is_held_is_said_again_by_the_own_clock() -> None:
    bench, judge = Bench(), Store.memory("n3", bytes(32), NOW)
    ahead, key = NOW + 31 * 24 * 3_600_000, ending(any_log("n2"), 0)
    with judge.group():
        judge.write(bench.request(), [write(key)], ahead, system=True)
    row = judge.rows(1, 1)[0]
    bench.ask(Apply("sync", "s", 1, 0, (Entry(row.header, row.body),), cloud=False, peer="n3"))
    assert list(bench.store.held()) == [judge.origin]
    body = bench.store.get(EXPELLED, key)
    assert (bench.store.expelled(), list(said_in(body)["Said"])) == ({"n2"}, ["n1"])
    assert bench.store.high_mark_ms() == NOW


def test_the_ends_of_single_logs_are_said_again_before_that_of_all_others() -> None:
    bench = Bench()
    known(bench, "n2")
    with bench.store.group():
        for end in ((any_log("n2"), 0), (OTHER, 7), ("n2/" + "1" * 32, 3)):
            bench.store.state.end(bench.store.connection, *end)
    before = bench.store.last_lsn()
    bench.ask(NoteSelf())
    said = [decode(row.header) for row in bench.store.rows(before + 1, 9)]
    keys = [header.key for header in said if header.collection == EXPELLED]
    assert keys == [ending("n2/" + "1" * 32, 3), ending(OTHER, 7), ending(any_log("n2"), 0)]


def test_the_word_of_one_that_is_out_counts_where_it_was_heard_first_and_everybody_hears_of_it() -> None:
    bench = Bench()
    known(bench, "n2")
    with bench.store.group():
        bench.store.state.end(bench.store.connection, any_log("n2"), 0)
    bench.ask(NoteSelf())
    assert list(said_in(bench.store.get(EXPELLED, ending(any_log("n2"), 0)))["Said"]) == ["n1"]


def test_a_node_that_is_to_write_as_another_says_it_again_when_it_is() -> None:
    bench, key = Bench(), ending(any_log("n2"), 0)
    with bench.store.group():
        bench.store.state.end(bench.store.connection, any_log("n2"), 0)
        bench.store.state.disowned = True
        expulsions.say_again(bench.keeper, bench.ctx)
        assert bench.store.get(EXPELLED, key) is None
        bench.store.state.disowned = False
        expulsions.say_again(bench.keeper, bench.ctx)
        assert bench.store.get(EXPELLED, key) is not None


def test_of_the_names_that_a_member_has_written_so_many_are_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expulsions, "MEMBERS_MAX", 2)
    bench, key = Bench(), ending(any_log("n2"), 0)
    said = json.dumps({"Said": {f"m{number}": 5 for number in range(9)}}).encode()
    with bench.store.group():
        bench.store.write(bench.request(), [Write(EXPELLED, key, said)], 0, system=True)
    bench.ask(NoteSelf())
    assert list(said_in(bench.store.get(EXPELLED, key))["Said"]) == ["m0", "m1", "n1"]


def test_a_document_that_a_member_has_filled_keeps_nothing_out_and_is_emptied() -> None:
    bench, judge = Bench(), Store.memory("n3", bytes(32), NOW)
    key, said = ending(any_log("n2"), 0), b'{"Said": {"n3": 5, "no id!": 6, "n4": "x"}, "x": "'
    body = said + b"a" * (BODY_BYTES_MAX - len(said) - 2) + b'"}'
    with judge.group():
        judge.write(bench.request(), [Write(EXPELLED, key, body)], NOW, system=True)
    row = judge.rows(1, 1)[0]
    bench.ask(Apply("sync", "s", 1, 0, (Entry(row.header, row.body),), cloud=False, peer="n3"))
    assert judge.origin in bench.store.vector()
    found = said_in(bench.store.get(EXPELLED, key))
    assert (sorted(found), sorted(found["Said"])) == (["Said"], ["n1", "n3"])


def test_a_proof_that_is_taken_out_in_the_batch_that_brought_it_is_said_again() -> None:
    """Two expel each other, and the word of one stands behind the end that the other has said."""
    bench = Bench()
    judge, other = Store.memory("n3", bytes(32), NOW), Store.memory("n4", b"4" * 32, NOW)
    key, proof = ending(OTHER, 7), "ab" * 64
    said = f'{{"Said": {{"n3": 5}}, "Signatures": {{"n3": "{proof}"}}}}'.encode()
    for store, writes in (
        (judge, [Write(EXPELLED, one, said) for one in (key, ending(any_log("n2"), 0))]),
        (other, [write(ending(any_log("n3"), 0))]),
    ):
        with store.group():
            store.write(bench.request(), writes, NOW, system=True)
    sent = tuple(Entry(row.header, row.body) for store in (judge, other) for row in store.rows(1, 9))
    bench.ask(Apply("sync", "s", 1, 0, sent, cloud=False, peer="n5"))
    assert judge.origin not in bench.store.vector()
    assert bench.store.expelled() == {"n2", "n3"}
    assert said_in(bench.store.get(EXPELLED, key)) == {"Said": {"n1": NOW}, "Signatures": {"n1": proof}}


def test_each_word_brings_a_proof_of_its_own_and_only_so_many_stand_in_a_document() -> None:
    """The log of the member that had said it first may end before its word."""
    bench, gone = Bench(), Store.memory("n2", b"2" * 32, NOW)
    with gone.group():
        gone.write(bench.request(), [Write("c", "k", b"{}")], NOW)
    key, (row,) = ending(gone.origin, 1), gone.rows(1, 1)
    assert row.signature is not None
    proof = row.signature.hex()
    bench.ask(Apply("sync", "s", 1, 0, (Entry(row.header, row.body, row.signature),), cloud=False, peer="n2"))
    told = {f"m{number:03}": 5 for number in range(PROOFS_MAX + 1)}
    said = json.dumps({"Said": told, "Signatures": dict.fromkeys(told, proof)}).encode()
    with bench.store.group():
        writes = Write(EXPELLED, key, said), write(ending(any_log("n2"), 0))
        bench.store.write(bench.request(), writes, NOW, system=True)
    before = bench.store.last_lsn()
    bench.ask(NoteSelf())
    again = {decode(row.header).key: row.body for row in bench.store.rows(before + 1, 9)}
    assert json.loads(again[key] or "")["change"][".Signatures"][".n1"] == proof
    assert len(said_in(bench.store.get(EXPELLED, key))["Signatures"]) == PROOFS_MAX


def test_no_number_of_expulsions_of_nodes_that_nobody_knows_keeps_another_from_being_expelled() -> None:
    bench = Bench()
    with bench.store.group():
        bench.store.state.known(bench.store.connection, OTHER)
    keys = [ending(any_log(f"ghost{number}"), 0) for number in range(ORIGINS_MAX + 10)]
    with bench.store.group():
        bench.store.write(bench.request(), [write(key) for key in keys], 0, system=True)
    assert len(bench.store.state.ended) == ORIGINS_MAX
    known(bench, "n2")
    assert isinstance(expel(bench, "n2"), CommitDone)
    assert "n2" in bench.store.expelled()
    assert len(bench.store.state.ended) == ORIGINS_MAX
    assert State.load(bench.store.connection).ended == bench.store.state.ended


def test_keys_and_bodies_that_are_none_say_nothing() -> None:
    assert read_ending("n2/5") is None
    assert read_expulsion(f"{OTHER}/7", "n1/" + "1" * 32) == (OTHER, 7)
    assert read_expulsion(f"{OTHER}/7", "n2/" + "1" * 32) is None
    assert said_in(b"[]") == said_in(b"{}") == {"Said": {}}
    assert signatures_in('{"Said": {"n1": 5}, "Signatures": {"n1": "xyz", "n2": 7, "n3": 5}}') == []
    ab, cd = b"\xab" * 64, b"\xcd" * 64
    told = {"Said": {"n1": 1, "n3": 3}, "Signatures": {"n1": ab.hex(), "n2": cd.hex(), "n3": ab.hex()}}
    assert signatures_in(json.dumps(told)) == [ab]
    names = [f"m{number:03}" for number in range(PROOFS_MAX + 1)]
    many = {"Said": dict.fromkeys(names, 1), "Signatures": {name: f"{name[1:]:>0128}" for name in names}}
    assert len(signatures_in(json.dumps(many))) == PROOFS_MAX


def known(bench: Bench, name: str) -> None:
    with bench.store.group():
        bench.store.write(bench.request(), [Write(NODES, name, b'{"NodeId": "n2"}')], 0, system=True)


def write(key: str) -> Write:
    return Write(EXPELLED, key, b'{"Said": {"n3": 5}}')
