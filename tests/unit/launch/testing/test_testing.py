"""``entgldb.testing``: clusters in one process, as the tests of an application use them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import entgldb
from entgldb.client.spread import SpreadError
from entgldb.launch.testing import transport
from entgldb.launch.testing.cluster import NODES_MAX, Cluster, NotSettledError
from entgldb.messages.errors import EntglError, InvalidError, NoNodeError
from entgldb.messages.model import Version

Make = Callable[..., Cluster]


def history(seed: int) -> list[object]:
    """All that a test could see of one history."""
    with Cluster(3, seed=seed) as cluster:
        cluster.lose(0.2)
        cluster.partition([0], [1, 2])
        for number, node in enumerate(cluster.nodes):
            node.db["c"].put("k", {"n": number})
            node.db["c"].put(f"k{number}", {})
        cluster.run(5)
        cluster.heal()
        cluster.settle()
        conflicts = [(one.key, one.version.seq) for one in cluster[0].db.conflicts()]
        changes = [(c.key, c.version, c.at_ms) for c in cluster[1].db.changes()]
        return [cluster.time, cluster[0].db["c"].get("k"), conflicts, changes]


def test_conflicts_come_by_pages(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(2)
    cluster.partition([0], [1])
    for node in cluster.nodes:
        for name in ("c", "d"):
            node.db[name].put_many({f"k{number}": {"by": node.name} for number in range(3)})
    cluster.heal()
    cluster.settle()
    db = cluster[0].db
    found = db.conflicts()
    assert [(one.collection, one.key) for one in found] == [(c, f"k{n}") for c in "cd" for n in range(3)]
    assert db.conflicts(skip=1, limit=3) == found[1:4]
    assert db.conflicts("d", skip=2, limit=3) == found[5:]
    assert db.conflicts(limit=0) == db.conflicts(skip=6) == []


def test_one_seed_is_one_history() -> None:
    assert history(5) == history(5)
    assert history(5) != history(6)


def test_what_one_writes_all_have(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(4)
    version = cluster["node-2"].db["users"].put("u1", {"name": "Ada"})
    cluster.settle()
    for node in cluster.nodes:
        found = node.db["users"].get("u1")
        assert found == {"name": "Ada"}
        assert found is not None
        assert found.version == version
        assert node.db["users"].count({"name": "Ada"}) == 1


def test_each_write_says_who_it_waits_for_and_its_version_who_has_it(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(3)
    here, there = cluster[0].db["c"], cluster[1].db["c"]
    cluster.settle()
    alone = here.put("k", {"n": 0})
    assert alone.spread is None
    version = here.put("k", {"n": 1}, ack="all", ack_timeout=60)
    assert there.get("k") == {"n": 1}, "when it returns"
    assert str(version.spread) == str(version.status()) == "durable on node-2, node-3"
    cluster.partition([0])
    waits: dict[str, Any] = {"ack": ["node-2"], "ack_timeout": 1}
    late: list[Callable[[], object]] = [
        lambda: here.put("put", {}, **waits),
        lambda: here.replace("replace", {}, **waits),
        lambda: here.insert({}, key="insert", **waits),
        lambda: here.put_many({"many": {}}, **waits),
        lambda: here.insert_many({"more": {}}, **waits),
        lambda: here.update("put", {"$inc": {"n": 1}}, **waits),
        lambda: here.find_and_update({"n": 1}, {"$inc": {"n": 1}}, **waits),
        lambda: here.update_many({"n": 2}, {"$inc": {"n": 1}}, **waits),
        lambda: here.delete("insert", **waits),
        lambda: here.delete_many({"n": 3}, **waits),
    ]
    for write in late:
        with pytest.raises(SpreadError, match="durable here, and after 1 s not on nodes:node-2"):
            write()
    version = here.put("last", {})
    assert str(version.status()) == "on no other node; node-2, node-3 not yet"
    cluster.heal()
    cluster.settle()
    cluster.run(60)
    assert str(version.status()) == "durable on node-2, node-3"
    with cluster[0].db.batch() as batch:
        batch["c"].put("batched", {})
    (version,) = batch.made()
    assert version.status().missing == ("node-2", "node-3")
    copied = pickle.loads(pickle.dumps(version))
    assert (copied, type(copied), repr(copied)) == (version, Version, repr(version))
    with pytest.raises(TypeError, match="acc"):
        here.put("k", {}, acc="all")  # type: ignore[call-arg]  # mistyped
    with pytest.raises(InvalidError, match="some"):
        here.put("never", {}, ack="some")
    with pytest.raises(SpreadError, match="there is no cloud peer"):
        here.put("written", {}, ack="cloud")
    assert (here.get("never"), here.get("written")) == (None, {})


def test_a_cut_network_and_what_lost(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(3)
    cluster.partition([0])
    cluster[0].db["c"].put("k", {"by": 0})
    cluster[2].db["c"].put("k", {"by": 2})
    cluster.settle()
    assert cluster[1].db["c"].get("k") == {"by": 2}
    assert cluster[0].db["c"].get("k") == {"by": 0}
    cluster.heal()
    cluster.settle()
    assert {str(node.db["c"].get("k")) for node in cluster.nodes} == {"{'by': 2}"}
    assert [len(node.db.conflicts("c")) for node in cluster.nodes] == [1, 1, 1]


def test_a_node_that_crashes_keeps_what_it_acknowledged(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(2)
    cluster.partition([0], [1])
    cluster[0].db["c"].put("k", {})
    cluster[0].crash()
    assert not cluster[0].up
    with pytest.raises(NoNodeError, match="node-1 is down"):
        cluster[0].db["c"].put("k", {})
    assert cluster[0].db["c"].get("k") == {}, "its file can be read"
    cluster.heal()
    cluster.settle()
    assert cluster[1].db["c"].get("k") is None
    cluster[0].start()
    cluster[0].db["c"].put("l", {})
    cluster.settle()
    assert cluster[1].db["c"].count() == 2


def test_a_clock_that_runs_ahead(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(2)
    cluster.skew(0, 300)
    cluster[0].db["c"].put("early", {})
    with pytest.raises(NotSettledError, match="node-2 holds entries back"):
        cluster.settle(20)
    assert [waiting.origin.partition("/")[0] for waiting in cluster[1].db.held()] == ["node-1"]
    cluster.settle(600)
    assert cluster[1].db["c"].get("early") == {}


def test_losses_and_delays_only_cost_time(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(3)
    cluster.lose(0.3)
    cluster.delay(0.2)
    for number in range(30):
        cluster[number % 3].db["c"].put(f"k{number}", {})
    cluster.settle(600)
    assert {node.db["c"].count() for node in cluster.nodes} == {30}


def test_the_whole_api_is_there(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(2)
    db, other = cluster[0].db, cluster[1].db
    db.set_conflict_rule("c", "merge")
    feed = other.changes(collection="c", follow=True)
    db["c"].put("a", {"n": 1})
    assert next(feed).key == "a", "time passes while it waits"
    db["c"].create_index("n")
    assert db["c"].put_many((f"k{n}", {"n": n}) for n in range(1200)) == 1200
    assert [found.key for found in db["c"].find({"n": {"$gte": 1198}}, sort="-n")] == ["k1199", "k1198"]
    db["c"].delete("a")
    assert db["c"].undelete("a").seq > 1
    with pytest.raises(entgldb.ExistsError):
        db["c"].insert({}, key="a")
    assert db.wait_synced(60).missing == ()
    assert other["c"].count() == 1201
    assert db.status()["node_id"] == "node-1"
    assert {row.node_id for row in db.nodes.all()} == {"node-1", "node-2"}
    db.peers.add_static_peer("far", "far.example:7000")
    cluster.settle()
    assert other.peers.get_remote_peer("far").address == "far.example:7000"


def test_waiting_for_who_is_cut_off_ends_in_virtual_time(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(2)
    cluster.partition([0], [1])
    before = cluster.time
    cluster[0].db["c"].put("k", {})
    with pytest.raises(entgldb.SpreadError):
        cluster[0].db.wait_synced(120)
    assert 110 < cluster.time - before < 150


def test_a_feed_that_nobody_could_end_ends_by_itself(
    entgldb_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FEED_SECONDS", 10.0)
    cluster = entgldb_cluster(1)
    feed = cluster[0].db.changes(follow=True)
    with pytest.raises(AssertionError, match="has waited for 10 s of virtual time"):
        next(feed)
    cluster[0].crash()
    again = cluster[0].db.changes(follow=True)
    with pytest.raises(AssertionError, match="node-1 is down"):
        next(again)


def test_a_node_that_is_gone_is_absent_when_its_time_is_over(entgldb_cluster: Make) -> None:
    cluster = entgldb_cluster(3)
    cluster["node-3"].crash()
    cluster.run(200)
    states = {row.node_id: row.state for row in cluster[0].db.nodes.all()}
    assert states == {"node-1": "live", "node-2": "live", "node-3": "absent"}


def test_what_cannot_be(entgldb_cluster: Make) -> None:
    for number in (0, NODES_MAX + 1):
        with pytest.raises(ValueError, match=f"{number} nodes"):
            entgldb_cluster(number)
    cluster = entgldb_cluster(1)
    with pytest.raises(KeyError, match="no node lan-1; there are node-1"):
        cluster["lan-1"]
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="a share of"):
            cluster.lose(wrong)
        with pytest.raises(ValueError, match="a delay of"):
            cluster.delay(-1 if wrong == 1.1 else wrong)
    cluster.close()
    cluster.close()
    with pytest.raises(InvalidError, match="closed"):
        cluster[0].db["c"].put("k", {})


def test_a_fault_of_an_actor_fails_the_test_that_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)
    behaviour = cluster._simulated[0].host.behaviour("store")  # type: ignore[union-attr]  # it runs

    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(behaviour, "flush", broken)
    with pytest.raises(EntglError, match="no answer from node-1"):
        cluster[0].db["c"].put("k", {})
    with pytest.raises(AssertionError, match="a bug"):
        cluster.close()
