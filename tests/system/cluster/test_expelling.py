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
        eventually(lambda: not any(gone.name in linked(n) for n in stay), "no link with it", 30.0)
        print(f"effective on {len(stay)} nodes {time.monotonic() - began:.1f} s after the verb began")
        gone.run("put", "users", "late", "{}")
        eventually(lambda: "expelled" in {a["code"] for a in gone.ask("sync")["alarms"]}, "it is told", 30.0)
        away.start()
        away.wait_ready()
        eventually(lambda: {n.name for n in stay} <= linked(away), "the one that was away is back", 60.0)
        eventually(lambda: gone.name not in linked(away), "it cuts the expelled one, too", EFFECTIVE_SECONDS)
        (told,) = away.run("members")
        (row,) = [row for row in told["members"] if row["node_id"] == gone.name]
        assert row["state"] == "expelled"
        one.run("put", "users", "after", "{}")
        eventually(lambda: away.document("users", "after") is not None, "the others go on", 30.0)
        assert all(node.document("users", "late") is None for node in (*stay, away))
