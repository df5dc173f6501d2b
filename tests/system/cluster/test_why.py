"""``entgldb why`` on real nodes: where a document is, where it came from, why it is not where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, lan=2) as made:
        made.lan[0].put("users", "u1", {"n": 1})
        made.until_everywhere(lambda node: node.document("users", "u1"), "the document is everywhere")
        yield made


def why(node: Node, key: str, *options: str) -> tuple[int, dict[str, str | None], list[dict[str, Any]]]:
    """The exit code; node id -> why it has not the document, None where it has; the versions."""
    done = node.verb("why", "--json", "users", key, *options)
    assert done.returncode in (0, 3), done.stderr
    if not done.stdout:
        return done.returncode, {}, []
    body = json.loads(done.stdout)
    return done.returncode, {row["node_id"]: row["reason"] for row in body["nodes"]}, body["versions"]


@pytest.mark.timeout(120)
def test_where_a_document_is_and_why_it_is_not_elsewhere(cluster: Cluster) -> None:
    one, two = cluster.lan

    def both_have_it() -> bool:
        return all(why(node, "u1")[1] == {one.name: None, two.name: None} for node in cluster.lan)

    eventually(both_have_it, "both know that both have it", 20)
    code, _, versions = why(two, "u1")
    assert code == 0
    assert [(row["came_from"], row["shown"]) for row in versions] == [(one.name, True)]
    assert versions[0]["came_ms"] >= versions[0]["written_ms"] - 1000
    assert [row["came_from"] for row in why(one, "u1")[2]] == [None]

    code, found, versions = why(one, "nothing")
    assert (code, found[one.name], versions) == (3, "unknown", [])
    assert why(one, "u1", "--on", "nobody")[0] == 3

    two.stop()
    one.put("users", "u2", {"n": 2})
    assert why(one, "u2")[1] == {one.name: None, two.name: "peer-offline"}
    assert why(one, "u2", "--on", two.name)[0] == 3
    one.run("delete", "users", "u1")
    code, found, versions = why(one, "u1")
    assert (found[one.name], [row["reason"] for row in versions]) == ("deleted", ["deleted", "overwritten"])

    one.stop()
    assert why(one, "u2")[:2] == (0, {one.name: None, two.name: "peer-offline"})
