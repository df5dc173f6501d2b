"""Members of a real cluster: who is there, who was retired and is refused, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("members"), lan=3) as made:
        yield made


def rows(node: Node) -> dict[str, dict[str, Any]]:
    (answer,) = node.run("nodes")
    return {row["node_id"]: row for row in answer["nodes"]}


def test_a_node_that_was_retired_is_refused_until_it_rejoins(cluster: Cluster) -> None:
    one, _, three = cluster.lan
    names = [node.name for node in cluster.lan]
    one.run("put", "users", "u1", "{}")

    def all_known() -> bool:
        found = rows(one)
        return sorted(found) == names and all(
            row["version"] and row["state"] == "live" and row["behind"] == 0 for row in found.values()
        )

    eventually(all_known, "every node is live, known by its own word and behind nothing", 30.0)
    first_seen = rows(one)[three.name]["first_seen"]
    three.stop()
    (done,) = one.run("retire-node", three.name)
    assert done == {"schema_version": 1, "node_id": three.name, "changed": True}
    assert rows(one)[three.name]["state"] == "retired"
    refused = one.verb("retire-node", one.name)
    assert refused.returncode == 2
    assert "cannot retire itself" in refused.stderr
    three.start()
    three.wait_ready()
    eventually(lambda: three.ask("sync")["retired"], "the returning node is refused", 20.0)
    assert one.run("status")[0]["sync"]["counts"].get("retired", 0) > 0
    busy = three.verb("rejoin")
    assert "already running" in busy.stderr
    three.stop()
    three.run("rejoin")
    three.start()
    three.wait_ready()

    def back() -> bool:
        row = rows(one)[three.name]
        return row["state"] == "live" and row["behind"] == 0 and bool(row["first_seen"] == first_seen)

    eventually(back, "the node has rejoined", 30.0)
    three.run("put", "users", "u3", "{}")
    eventually(lambda: one.document("users", "u3") is not None, "what it writes arrives", 10.0)
