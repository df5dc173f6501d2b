"""The table of requests: what the store decides by the kind of a message stands in one place."""

from __future__ import annotations

import json

import pytest

from entgldb.actors.store.behaviour import REQUESTS
from entgldb.messages import client
from entgldb.messages.administration import HealOrigin, SetConflict, Undelete
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.actors import (
    ApplyInitialPeers,
    InitialPeersApplied,
    ReleaseHeld,
    RemotePeersChanged,
)
from entgldb.messages.local.members import SettleSecret, TendKey
from entgldb.messages.model import HEALED, REMOTE_PEERS, Entry
from entgldb.messages.schema import Message
from entgldb.storage.store import Store
from tests.unit.actors.store.test_store_keeper import NOW, Bench


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_whoever_names_a_request_is_answered_and_stamps_a_version(kind: type[Message]) -> None:
    row = REQUESTS[kind]
    named = "request" in kind.__annotations__
    assert row.own_write == (named or kind in (ApplyInitialPeers, SettleSecret, TendKey))
    assert row.answers or not named


def told(bench: Bench) -> list[list[str]]:
    """The names of the peers, each time the node actor was told of them."""
    found = [
        message for _, message in bench.told(RemotePeersChanged) if isinstance(message, RemotePeersChanged)
    ]
    return [[str(peer["NodeId"]) for peer in message.peers] for message in found]


def write_peer(store: Store, name: str, counter: int) -> list[Entry]:
    body = json.dumps({"NodeId": name, "Address": "h:1", "Type": 1, "OAuth2Json": "", "IsEnabled": True})
    request = client.RequestId(b"w" * 16, counter)
    with store.group():
        store.write(request, (client.Write(REMOTE_PEERS, name, body.encode()),), NOW + counter, system=True)
    return [Entry(row.header, row.body) for row in store.rows(1, 9)]


def test_a_healed_origin_that_wrote_remote_peers_is_told_to_the_node_at_once() -> None:
    bench = Bench()
    one, other = (Store.memory("n2", b"same", NOW) for _ in range(2))
    with bench.store.group():
        bench.store.apply(write_peer(one, "on-ours", 1), NOW + 9)
        bench.store.apply(write_peer(other, "on-theirs", 2), NOW + 9)
    bench.keeper.start(bench.ctx)
    assert told(bench)[-1] == ["on-ours"]
    (answer,) = bench.ask(HealOrigin(bench.request(), one.origin, "theirs"))
    assert isinstance(answer, client.CommitDone)
    assert told(bench)[-1] == []
    # configuration of the branch that went is not kept as a version that lost
    assert bench.keeper.counts == {"filtered": 1}
    assert f"{one.origin}: what it had put to 1 keys is kept nowhere" in bench.ctx.lines


def test_a_cloud_node_decides_for_itself_and_writes_nothing_that_no_node_of_the_lan_could_apply() -> None:
    bench = Bench(role="cloud")
    one, other = (Store.memory("n2", b"same", NOW) for _ in range(2))
    with bench.store.group():
        bench.store.apply(write_peer(one, "on-ours", 1), NOW + 9, cloud=True)
        bench.store.apply(write_peer(other, "on-theirs", 2), NOW + 9, cloud=True)
    assert bench.store.forked() == {one.origin}
    (answer,) = bench.ask(HealOrigin(bench.request(), one.origin, "theirs"))
    assert answer == client.CommitDone((), 0)
    assert bench.store.forked() == set()
    assert bench.store.origin not in bench.store.vector()


@pytest.mark.parametrize("seq", [2**80, 1e300, -1, 0, "7", None, True])
def test_a_decision_that_cannot_be_one_is_passed_over(seq: object) -> None:
    bench, before = Bench(), Bench("n2", seed=b"\2" * 32)
    body = json.dumps({"Origin": bench.store.origin, "Seq": seq, "Hash": "00" * 32}).encode()
    write = client.Write(HEALED, bench.store.origin, body)
    with before.store.group():
        before.store.write(before.request(), (write,), NOW, system=True)
    entries = [Entry(row.header, row.body) for row in before.store.rows(1, 9)]
    with bench.store.group():
        bench.store.apply(entries, NOW)
    old = bench.store.origin
    bench.ask(ReleaseHeld())
    assert bench.store.origin == old
    assert bench.keeper.counts["handler-failed"] == 0


def test_what_concerns_no_system_collection_is_not_looked_at() -> None:
    bench = Bench()
    for kind in (client.Commit, client.CreateIndex, Undelete, SetConflict):
        assert not REQUESTS[kind].touches_system(bench.put("a"))


def test_initial_peers_count_as_applied_only_when_they_stand_in_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    initial = {"node_id": "s1", "address": "h:9000", "type": 1}
    write = Store.write

    def full(*_: object, **__: object) -> tuple[tuple[object, ...], int]:
        raise EntglError("the disk is full", code=ErrorCode.DISK_FULL)

    monkeypatch.setattr(Store, "write", full)
    bench.ask(ApplyInitialPeers((initial,), 1))
    assert bench.told(InitialPeersApplied) == []
    monkeypatch.setattr(Store, "write", write)
    bench.ask(ApplyInitialPeers(({"node_id": "broken"}, initial), 1))
    assert bench.told(InitialPeersApplied) == [("node", InitialPeersApplied(1))]
    assert [peer["NodeId"] for peer in bench.peers()] == ["s1"]
