"""Collections that merge, in a real cluster: the writes made while apart survive on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import entgldb
from entgldb.messages.errors import NotFoundError
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


def peer(node: Node) -> tuple[str, bool | None]:
    """Address, and whether it is enabled."""
    return next(((one.address, one.enabled) for one in node.peers() if one.node_id == PEER), ("", None))


def conflicts(node: Node, collection: str | None = None) -> int:
    with node.open() as db:
        return len(db.conflicts(collection))


def merges(collection: str) -> Callable[[Node], bool]:
    def check(node: Node) -> bool:
        with node.open() as db:
            return db.conflict_rule(collection) == "merge"

    return check


def test_enabling_a_peer_here_and_changing_its_address_there_both_survive(cluster: Cluster) -> None:
    first, second, third = cluster.lan
    first.run("add-static-peer", "--node-id", PEER, "--address", "127.0.0.1:9")
    first.run("disable-peer", PEER)
    cluster.until_everywhere(lambda node: peer(node)[1] is False, "lists the disabled peer")
    isolated(third, on=True)
    first.run("enable-peer", PEER)
    third.run("update-peer", PEER, "--address", "127.0.0.1:10")
    eventually(lambda: peer(second)[1] is True, "lan-2 has it enabled")
    assert (peer(third)[1], peer(second)[0]) == (False, "127.0.0.1:9")
    isolated(third, on=False)
    cluster.until_everywhere(
        lambda node: peer(node) == ("127.0.0.1:10", True),
        "has both changes",
    )
    assert [conflicts(node) for node in cluster.lan] == [0] * 3


def test_a_conflict_of_fields_is_shown_and_settled_everywhere(cluster: Cluster) -> None:
    first, _, third = cluster.lan
    assert first.run("collection", "users", "--conflict", "merge")[0]["changed"] is True
    cluster.until_everywhere(merges("users"), "knows the rule")
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
        lambda node: node.document("users", "u1") == settled and conflicts(node) == 0, "is settled"
    )


def test_an_edit_that_arrives_while_a_client_holds_the_document_is_kept(cluster: Cluster) -> None:
    first, second, _ = cluster.lan
    first.run("collection", "held", "--conflict", "merge")
    cluster.until_everywhere(merges("held"), "knows the rule")
    with entgldb.connect(first.directory) as a, entgldb.connect(second.directory) as b:
        a["held"].put("k", {"x": 0, "y": 0})
        eventually(lambda: b["held"].get("k") is not None, "lan-2 has the document")
        read = a["held"].get("k")
        assert read is not None
        b["held"].put("k", b["held"].get("k") | {"y": 1})  # type: ignore[operator]  # it is there
        eventually(lambda: a["held"].get("k") == {"x": 0, "y": 1}, "the edit of lan-2 is here")
        a["held"].put("k", read | {"x": 1})
    cluster.until_everywhere(lambda node: node.document("held", "k") == {"x": 1, "y": 1}, "has both edits")
    assert [conflicts(node, "held") for node in cluster.lan] == [0] * 3


def test_whoever_shows_a_conflict_ends_it_everywhere_by_writing(cluster: Cluster) -> None:
    first, second, third = cluster.lan
    isolated(third, on=True)
    first.put("whole", "k", {"by": "first"})
    third.put("whole", "k", {"by": "third"})
    isolated(third, on=False)
    cluster.until_everywhere(lambda node: conflicts(node, "whole") == 1, "shows the conflict")
    second.put("whole", "k", {"by": "second"})
    cluster.until_everywhere(
        lambda node: (node.document("whole", "k"), conflicts(node, "whole")) == ({"by": "second"}, 0),
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

    def knows_the_history() -> bool:
        with suppress(NotFoundError), third.open() as db:
            return len(db["notes"].history("n1").versions) == 3
        return False

    eventually(knows_the_history, "lan-3 knows the history")
    third.run("undelete", "notes", "n1")
    cluster.until_everywhere(lambda node: node.document("notes", "n1") == {"text": "two"}, "has it back")
    assert [(past["op"], past["document"]) for past in _versions(first)] == [
        ("put", {"text": "two"}),
        ("delete", None),
        ("put", {"text": "two"}),
        ("put", {"text": "one"}),
    ]


def _versions(node: Node) -> list[dict[str, Any]]:
    return list(node.run("history", "notes", "n1")[0]["versions"])
