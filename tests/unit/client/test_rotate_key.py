"""A new cluster key by the verb, on a node that runs; the secrets that members know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.tls.certificates import name_of
from entgldb.client.database import Database
from entgldb.launch.cli.cluster.members import SHOWN
from entgldb.launch.cli.cluster.peers import SECRET_VARIABLE


def test_a_new_key_counts_and_the_name_of_the_cluster_and_its_secrets_stay(
    db: Database,
    directory: Path,
    says: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = directory / "cluster.key"
    before = read_cluster_keys(file)
    assert db.nodes.cluster_key() is None
    assert db.nodes.known_secrets() == []
    peer = ("--address", "h:9000", "--authority", "https://id.example.com", "--client-id", "me")
    monkeypatch.setenv(SECRET_VARIABLE, "hunter2")
    says("add-cloud-peer", "--node-id", "cloud-1", *peer)
    assert db.nodes.known_secrets() == ["cloud-1"]
    file_of_secret = tmp_path / "new"
    file_of_secret.write_text("hunter3\n")
    rotate = ("rotate-secret", "cloud-1", "--client-secret-file", str(file_of_secret))
    row = json.loads(says(*rotate, "--overlap", "2h", "--json"))
    assert (row["sealed"], row["known_outside"]) == (True, False)
    assert "the secret of cloud-1 changes over" in says("members")
    assert [one.changes_over_until for one in db.peers.secrets()] == [row["changes_over_until"]]
    told = json.loads(says("rotate-key", "--wait", "30", "--json"))["cluster_key"]
    assert (told["by"], told["waiting"], told["held"]) == ("lan-1", [], told["key"])
    said = says("rotate-key", "--wait", "30")
    state = db.nodes.cluster_key()
    assert state is not None
    assert said == f"cluster key {state.key[:SHOWN]} counts from now on\n"
    assert state.key != told["key"]
    after = read_cluster_keys(file)
    assert after.keys[0] not in before.keys
    assert name_of(after) == name_of(before)
    assert [row.moved for row in db.nodes.members()] == [True]
