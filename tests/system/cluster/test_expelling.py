"""Five real nodes: one is expelled, within seconds by all that are there, at once by one that returns."""

from __future__ import annotations

import time

import pytest

from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = pytest.mark.slow
EFFECTIVE_SECONDS = 5.0


def linked(node: Node) -> set[str]:
    return {peer["node_id"] for peer in node.ask("sync")["peers"]}


def waiting(node: Node) -> list[str]:
    (told,) = node.run("members")
    return list(told["cluster_key"]["waiting"])


def held(node: Node) -> bytes:
    return (node.directory / "cluster.key").read_bytes()


def new_keys_count(cluster: Cluster, members: tuple[Node, ...], gone: Node) -> None:
    """All hold the new key and no other, the one that was expelled has none; the next one is taken, too."""
    one, two, *_ = members
    eventually(lambda: {held(node) for node in members} == {held(one)}, "all hold one key", 30.0)
    before = held(one)
    assert len(before) > len(held(gone)), "it carries the name of the cluster"
    assert before[:32] != held(gone)[:32]
    (told,) = one.run("rotate-key", "--wait", "30")
    assert told["cluster_key"]["waiting"] == []
    eventually(lambda: {held(node) for node in members} == {held(one)} != {before}, "all moved again", 30.0)
    two.stop()
    two.start()
    two.wait_ready()
    names = {node.name for node in members}
    eventually(lambda: linked(two) == names - {two.name}, "it comes back by the key in its file", 60.0)
    (done,) = two.run("audit")
    assert "cluster key" in {row["subject"] for row in done["rows"]}


def test_a_node_is_expelled_within_seconds_and_by_one_that_was_away_when_it_returns(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Cluster(tmp_path_factory.mktemp("expelling"), lan=5) as cluster:
        one, two, gone, four, away = cluster.lan
        stay = (one, two, four)
        everybody = {node.name for node in cluster.lan}
        eventually(lambda: all(linked(n) == everybody - {n.name} for n in cluster.lan), "a mesh", 90.0)

        def by_key() -> bool:
            (told,) = one.run("members")
            return sum(bool(row["key"]) for row in told["members"]) == len(everybody)

        eventually(by_key, "the key of each is known", 60.0)
        away.stop()
        began = time.monotonic()
        (told,) = one.run("expel", gone.name, "--wait", "1")
        assert told["changed"]
        assert away.name in told["missing"]
        assert told["secrets"] == []
        eventually(lambda: not any(gone.name in linked(n) for n in stay), "no link with it", 30.0)
        print(f"effective on {len(stay)} nodes {time.monotonic() - began:.1f} s after the verb began")
        eventually(lambda: waiting(one) == [away.name], "all that are there have the new key", 30.0)
        gone.run("put", "users", "late", "{}")
        eventually(lambda: "expelled" in {a["code"] for a in gone.ask("sync")["alarms"]}, "it is told", 30.0)
        away.start()
        away.wait_ready()
        eventually(lambda: {n.name for n in stay} <= linked(away), "the one that was away is back", 60.0)
        eventually(lambda: gone.name not in linked(away), "it cuts the expelled one, too", EFFECTIVE_SECONDS)
        (told,) = away.run("members")
        (row,) = [row for row in told["members"] if row["node_id"] == gone.name]
        assert row["state"] == "expelled"
        eventually(lambda: waiting(one) == [], "it has the new key, too", 30.0)
        new_keys_count(cluster, (*stay, away), gone)
        one.run("put", "users", "after", "{}")
        eventually(lambda: away.document("users", "after") is not None, "the others go on", 30.0)
        assert all(node.document("users", "late") is None for node in (*stay, away))
