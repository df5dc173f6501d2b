"""Indexes that every node of a cluster has: made, dropped, refused, over partitions and crashes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.launch.testing.cluster import Cluster, Node
from entgldb.messages import client
from entgldb.messages.errors import ExistsError, NotFoundError
from entgldb.messages.limits import INDEXES_MAX
from entgldb.messages.model import INDEXES


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3) as made:
        yield made


def names(node: Node) -> list[tuple[str, bool, bool]]:
    return [(one.name, one.everywhere, one.ready) for one in node.db.indexes()]


def told(node: Node) -> Any:
    return node.db.status("store")["indexes"]


def settle(cluster: Cluster) -> None:
    cluster.settle()
    # the steps of building come after what they build
    cluster.run(2)


def test_every_node_has_it_and_every_node_drops_it(cluster: Cluster) -> None:
    for number in range(30):
        cluster[number % 3].db["orders"].put(
            f"o{number}", {"n": number, "tags": ["even", "odd"][number % 2 :]}
        )
    made = cluster[0].db["orders"].create_index(["tags", "-n"], everywhere=True)
    cluster[1].db["orders"].create_index("note", text=True, everywhere=True)
    cluster[0].db["orders"].put("late", {"n": 99, "tags": ["odd"], "note": "came late"})
    settle(cluster)
    for node in cluster.nodes:
        assert names(node) == [(made, True, True), ("text", True, True)]
        plan = node.db["orders"].explain({"tags": "even", "n": {"$gte": 20}})
        assert (plan.indexes, plan.found) == ((made,), 5)
        assert [one.key for one in node.db["orders"].find({"$text": "late"})] == ["late"]
    cluster[2].db["orders"].drop_index(made)
    settle(cluster)
    assert [names(node) for node in cluster.nodes] == [[("text", True, True)]] * 3
    with pytest.raises(NotFoundError):
        cluster[0].db["orders"].drop_index(made)


def test_two_definitions_under_one_name_become_one(cluster: Cluster) -> None:
    cluster.partition([0], [1, 2])
    cluster[0].db["c"].create_index("a", everywhere=True, name="one")
    cluster[1].db["c"].create_index("b", everywhere=True, name="one")
    with pytest.raises(ExistsError, match="another index 'one', over b"):
        cluster[1].db["c"].create_index("a", everywhere=True, name="one")
    cluster.heal()
    settle(cluster)
    found = {str([(one.name, one.paths) for one in node.db.indexes()]) for node in cluster.nodes}
    assert len(found) == 1


def test_a_node_that_was_down_builds_it_when_it_comes_back(cluster: Cluster) -> None:
    cluster[0].db["c"].put_many({f"k{n}": {"a": n} for n in range(50)})
    cluster[0].db["c"].create_index("b", everywhere=True)
    settle(cluster)
    cluster[2].crash()
    cluster[0].db["c"].create_index("a", everywhere=True)
    cluster[0].db["c"].drop_index("b")
    cluster.run(2)
    cluster[2].start()
    settle(cluster)
    assert [names(node) for node in cluster.nodes] == [[("a", True, True)]] * 3


def test_a_node_that_cannot_have_it_says_so(cluster: Cluster) -> None:
    cluster[2].db["c"].create_index("other", name="a")
    cluster[0].db["c"].create_index("a", everywhere=True)
    settle(cluster)
    (refusal,) = told(cluster[2])["refused"]
    assert refusal == "index c/a: c has another index 'a', over other"
    assert names(cluster[2]) == [("a", False, True)]
    cluster[2].db["c"].drop_index("a")
    settle(cluster)
    assert told(cluster[2]) == {"ready": 1, "building": [], "refused": []}
    assert names(cluster[2]) == [("a", True, True)]


def test_more_than_a_node_can_have_is_refused_and_told(cluster: Cluster) -> None:
    for number in range(INDEXES_MAX - 1):
        cluster[2].db[f"c{number}"].create_index("a")
    for number in range(2):
        cluster[0].db["more"].create_index(f"f{number}", everywhere=True)
    settle(cluster)
    assert told(cluster[2])["refused"] == [
        f"index more/f1: a node has at most INDEXES_MAX = {INDEXES_MAX} indexes"
    ]
    assert told(cluster[1])["ready"] == 2


def test_a_definition_of_a_later_release_is_told_and_costs_nothing_else(cluster: Cluster) -> None:
    for key, body in (
        ("c/later", b'{"Collection":"c","Name":"later","Paths":["a"],"Where":null,"Sharded":true}'),
        ("c/other", b'{"Collection":"c","Name":"another","Paths":["a"]}'),
        ("c/none", b'{"Paths":7}'),
    ):
        write = client.Write(INDEXES, key, body)
        with cluster[0]._simulated.store.group():
            cluster[0]._simulated.store.write(cluster[0].db.next_request(), [write], 1, system=True)
    cluster[1].db["c"].create_index("a", everywhere=True)
    settle(cluster)
    assert [one.partition(": ")[0] for one in told(cluster[1])["refused"]] == [
        "index c/later",
        "index c/none",
        "index c/other",
    ]
    assert names(cluster[1]) == [("a", True, True)]
