"""Collections that merge, in a real cluster: the writes made while apart survive on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import entgldb
from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100, method="signal")]

PEER = "site"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("merging"), lan=3) as made:
        yield made


def isolated(node: Node, *, on: bool) -> None:
    node.run("tell", "sync", "Isolate", f"seconds={600 if on else 0}")
    if on:
        eventually(lambda: node.ask("sync").get("isolated") is True, f"{node.name} is isolated")


def peer(node: Node) -> dict[str, Any]:
    return next((one for one in node.peers() if one["node_id"] == PEER), {})


def test_enabling_a_peer_here_and_changing_its_address_there_both_survive(cluster: Cluster) -> None:
    first, second, third = cluster.lan
    first.run("add-static-peer", "--node-id", PEER, "--address", "127.0.0.1:9")
    first.run("disable-peer", PEER)
    cluster.until_everywhere(lambda node: peer(node).get("enabled") is False, "lists the disabled peer")
    isolated(third, on=True)
    first.run("enable-peer", PEER)
    third.run("update-peer", PEER, "--address", "127.0.0.1:10")
    eventually(lambda: peer(second)["enabled"] is True, "lan-2 has it enabled")
    assert (peer(third)["enabled"], peer(second)["address"]) == (False, "127.0.0.1:9")
    isolated(third, on=False)
    cluster.until_everywhere(
        lambda node: (peer(node)["enabled"], peer(node)["address"]) == (True, "127.0.0.1:10"),
        "has both changes",
    )
    assert all(node.run("conflicts") == [] for node in cluster.lan)


def test_a_conflict_of_fields_is_shown_and_settled_everywhere(cluster: Cluster) -> None:
    first, _, third = cluster.lan
    assert first.run("collection", "users", "--conflict", "merge")[0]["changed"] is True
    cluster.until_everywhere(
        lambda node: node.run("collection", "users")[0]["conflict"] == "merge", "knows the rule"
    )
    first.put("users", "u1", {"name": "Ada", "age": 36})
    cluster.until_everywhere(lambda node: node.document("users", "u1") is not None, "has the document")
    isolated(third, on=True)
    first.put("users", "u1", {"name": "Lost", "age": 37})
    third.put("users", "u1", {"name": "Kept", "age": 36, "city": "Rome"})
    isolated(third, on=False)
    both = {"name": "Kept", "age": 37, "city": "Rome"}
    cluster.until_everywhere(lambda node: node.document("users", "u1") == both, "has merged")
    (lost,) = third.run("conflicts", "users")
    assert (lost["rule"], lost["document"], lost["winner"]["document"]) == (
        "merge",
        {"name": "Lost", "age": 37},
        both,
    )
    version = f"{lost['version']['origin']}:{lost['version']['seq']}"
    third.run("resolve", "users", "u1", version, "--take", "loser")
    settled = both | {"name": "Lost"}
    cluster.until_everywhere(
        lambda node: node.document("users", "u1") == settled and node.run("conflicts") == [], "is settled"
    )


def test_an_edit_that_arrives_while_a_client_holds_the_document_is_kept(cluster: Cluster) -> None:
    first, second, _ = cluster.lan
    first.run("collection", "held", "--conflict", "merge")
    cluster.until_everywhere(
        lambda node: node.run("collection", "held")[0]["conflict"] == "merge", "knows the rule"
    )
    with entgldb.connect(first.directory) as a, entgldb.connect(second.directory) as b:
        a["held"].put("k", {"x": 0, "y": 0})
        eventually(lambda: b["held"].get("k") is not None, "lan-2 has the document")
        read = a["held"].get("k")
        assert read is not None
        b["held"].put("k", b["held"].get("k") | {"y": 1})  # type: ignore[operator]  # it is there
        eventually(lambda: a["held"].get("k") == {"x": 0, "y": 1}, "the edit of lan-2 is here")
        a["held"].put("k", read | {"x": 1})
    cluster.until_everywhere(lambda node: node.document("held", "k") == {"x": 1, "y": 1}, "has both edits")
    assert all(node.run("conflicts", "held") == [] for node in cluster.lan)


def test_whoever_shows_a_conflict_ends_it_everywhere_by_writing(cluster: Cluster) -> None:
    first, second, third = cluster.lan
    isolated(third, on=True)
    first.put("whole", "k", {"by": "first"})
    third.put("whole", "k", {"by": "third"})
    isolated(third, on=False)
    cluster.until_everywhere(lambda node: len(node.run("conflicts", "whole")) == 1, "shows the conflict")
    second.put("whole", "k", {"by": "second"})
    cluster.until_everywhere(
        lambda node: (node.document("whole", "k"), node.run("conflicts", "whole")) == ({"by": "second"}, []),
        "has the new document and no conflict",
    )


def test_a_deleted_document_comes_back_on_every_node_with_its_history(cluster: Cluster) -> None:
    first, _, third = cluster.lan
    first.put("notes", "n1", {"text": "one"})
    first.put("notes", "n1", {"text": "two"})
    first.run("delete", "notes", "n1")
    refused = first.verb("undelete", "notes", "nothing")
    assert refused.returncode == 3
    assert "knows no such document" in refused.stderr
    eventually(lambda: len(_versions(third)) == 3, "lan-3 knows the history")
    third.run("undelete", "notes", "n1")
    cluster.until_everywhere(lambda node: node.document("notes", "n1") == {"text": "two"}, "has it back")
    assert [(past["op"], past["document"]) for past in _versions(first)] == [
        ("put", {"text": "two"}),
        ("delete", None),
        ("put", {"text": "two"}),
        ("put", {"text": "one"}),
    ]


def _versions(node: Node) -> list[dict[str, Any]]:
    answer = node.verb("history", "notes", "n1")
    return node.run("history", "notes", "n1")[0]["versions"] if answer.returncode == 0 else []
