"""Real nodes: a row is changed behind the back of one of them, and ``entgldb verify`` finds and mends it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, lan=2) as made:
        for n in range(20):
            made.lan[0].put("users", f"u{n}", {"n": n})
        made.until_everywhere(lambda node: node.document("users", "u19"), "all documents are everywhere")
        yield made


def verify(node: Node, *options: str) -> tuple[int, dict[str, Any]]:
    done = node.verb("verify", "--json", *options)
    assert done.returncode in (0, 5), done.stderr
    return done.returncode, json.loads(done.stdout)


def damage(node: Node, statement: str) -> None:
    with closing(sqlite3.connect(node.directory / "entgldb.db", timeout=5)) as connection, connection:
        connection.execute(statement)


@pytest.mark.timeout(120)
def test_damage_is_found_and_mended_on_running_nodes_and_found_on_a_stopped_one(cluster: Cluster) -> None:
    one, two = cluster.lan

    def linked() -> bool:
        return verify(one)[1]["peers"] != []

    eventually(linked, "the nodes verify", 20)
    code, body = verify(one)
    assert (code, body["findings"]) == (0, [])
    assert [row["result"] for row in body["peers"]] == ["equal"]

    damage(one, "UPDATE _entgldb_documents SET body = '{\"n\":99}' WHERE key = 'u3'")
    damage(two, "DELETE FROM _entgldb_documents WHERE key = 'u4'")
    code, body = verify(one)
    assert code == 5
    assert [(found["kind"], found["where"]) for found in body["findings"]] == [("document", "users u3")]
    assert [row["keys"] for row in body["peers"]] == [[["users", "u3", "take"], ["users", "u4", "keep"]]]
    assert one.document("users", "u3") == {"n": 99}

    assert verify(two, "--peer", one.name, "--repair")[1]["peers"][0]["result"] == "repaired"
    assert (one.document("users", "u3"), two.document("users", "u4")) == ({"n": 3}, {"n": 4})
    for node in cluster.lan:
        assert verify(node)[0] == 0
    assert one.verb("verify", "--peer", "nobody").returncode == 3

    one.stop()
    damage(one, "UPDATE _entgldb_oplog SET body = '{}' WHERE key = 'u5'")
    code, body = verify(one, "--deep")
    assert (code, body["compared"]) == (5, False)
    assert [found["kind"] for found in body["findings"]] == ["body"]
