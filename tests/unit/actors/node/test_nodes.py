"""``_system_nodes``: each node writes about itself, and any node retires another."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256

from entgldb._version import VERSION
from entgldb.actors.nodes import is_retired, retired_origins
from entgldb.messages import client
from entgldb.messages.administration import RetireNode
from entgldb.messages.local.members import NodesChanged, NoteSelf, RememberMembers
from entgldb.messages.model import NODES, incarnation_of
from entgldb.messages.schema import Json
from entgldb.messages.wire import Member
from entgldb.storage.rules.incarnations import Why
from tests.unit.actors.store.test_store_keeper import NOW, Bench

OTHER = "n2/" + "2" * 32


def note_self(bench: Bench) -> dict[str, Json]:
    bench.ask(NoteSelf())
    body = bench.store.get(NODES, "n1")
    assert body is not None
    found: dict[str, Json] = json.loads(body)
    return found


def heard_of_another() -> Bench:
    bench = Bench()
    bench.ask(RememberMembers((Member(OTHER, 1, NOW, {}),)))
    return bench


def retire(bench: Bench, node_id: str) -> client.Message:
    return bench.ask(RetireNode(bench.request(), node_id))[0]


def test_a_node_writes_once_what_rarely_changes() -> None:
    bench = Bench()
    found = note_self(bench)
    incarnation = incarnation_of(bench.store.origin)
    assert found == {
        "NodeId": "n1",
        "Incarnation": incarnation,
        "PublicKey": found["PublicKey"],
        "FirstSeen": NOW,
        "Version": VERSION,
        "Retired": None,
    }
    assert sha256(b64decode(found["PublicKey"])).hexdigest()[:32] == incarnation
    last = bench.store.last_lsn()
    note_self(bench)
    assert bench.store.last_lsn() == last


def test_first_seen_outlives_a_new_incarnation() -> None:
    bench = Bench()
    note_self(bench)
    with bench.store.group():
        bench.store.incarnations.reincarnate(b"\2" * 32, Why.REJOINED, NOW)
    bench.ctx.behaviour = bench.keeper
    bench.ctx.run(60.0)
    found = note_self(bench)
    assert found["FirstSeen"] == NOW
    assert found["Incarnation"] == incarnation_of(bench.store.origin)


def test_the_node_actor_is_told_of_every_change() -> None:
    bench = Bench()
    found = note_self(bench)
    assert bench.told(NodesChanged) == [("node", NodesChanged((found,)))]


def test_a_cloud_node_keeps_no_list() -> None:
    bench = Bench(role="cloud")
    bench.ask(NoteSelf())
    assert bench.store.documents(NODES) == []
    answer = retire(bench, "n2")
    assert isinstance(answer, client.Refused)
    assert answer.code == "not-allowed"


def test_retiring_names_the_incarnation_and_is_done_once() -> None:
    bench = heard_of_another()
    request = RetireNode(bench.request(), "n2")
    first, again = bench.ask(request)[0], bench.ask(request)[0]
    assert isinstance(first, client.CommitDone)
    assert first.lsn > 0
    assert first == again
    assert retire(bench, "n2") == client.CommitDone((), 0)
    body = json.loads(bench.store.get(NODES, "n2") or b"")
    assert is_retired(body)
    assert retired_origins([body]) == {OTHER}


def test_a_retired_node_that_comes_back_as_another_incarnation_has_rejoined() -> None:
    body = {"NodeId": "n2", "Incarnation": "3" * 32, "Retired": "2" * 32}
    assert not is_retired(body)
    assert retired_origins([body]) == {OTHER}
    assert retired_origins([{"NodeId": "n2", "Incarnation": "3" * 32, "Retired": None}]) == frozenset()


def test_nobody_retires_itself_or_a_stranger() -> None:
    bench = heard_of_another()
    for node_id, code, word in (("n1", "invalid", "itself"), ("n9", "not-found", "no node n9")):
        answer = retire(bench, node_id)
        assert isinstance(answer, client.Refused)
        assert answer.code == code
        assert word in answer.text


def test_last_words_are_kept_in_the_file_and_never_replaced_by_older_ones() -> None:
    bench = heard_of_another()
    bench.ask(RememberMembers((Member(OTHER, 3, NOW + 2, {OTHER: 7}),)))
    bench.ask(RememberMembers((Member(OTHER, 2, NOW + 1, {}),)))
    kept = bench.store.members()["n2"]
    assert kept.row == Member(OTHER, 3, NOW + 2, {OTHER: 7})
    assert kept.heard_ms == NOW
    assert bench.store.last_lsn() == 0
