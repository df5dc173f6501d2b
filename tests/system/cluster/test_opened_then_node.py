"""A directory that a program has opened becomes a node: others take what was written, and it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import entgldb
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.init import Plan, init

pytestmark = pytest.mark.slow


def until(look: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_what_was_written_without_a_cluster_replicates(tmp_path: Path) -> None:
    with entgldb.open(tmp_path / "n1", node_id="lan-1") as db:
        db["c"].put("before", {"n": 1})
    one = init(Plan(tmp_path / "n1", host="127.0.0.1"))
    with entgldb.open(one.directory) as db:
        between = db["c"].put("between", {"n": 2})
    key = one.directory / "cluster.key"
    # a second program has written, too, and then joins the cluster of the first
    with entgldb.open(tmp_path / "n2", node_id="lan-2") as db:
        db["c"].put("other", {"n": 3})
    seed = (f"127.0.0.1:{one.port}",)
    two = init(Plan(tmp_path / "n2", host="127.0.0.1", seeds=seed, cluster_key_file=key))
    with (
        entgldb.launch(one.directory),
        entgldb.launch(two.directory),
        entgldb.connect(one.directory) as here,
        entgldb.connect(two.directory) as there,
    ):
        until(lambda: there["c"].count() == 3 and here["c"].count() == 3)
        found = there["c"].get("between")
        assert found is not None
        assert found.version == between, "no new writer"
        there["c"].put("between", {"n": 4})
        until(lambda: here["c"].get("between") == {"n": 4})
        assert here.conflicts() == []
        with pytest.raises(entgldb.EntglError, match="a node is already running in"):
            entgldb.open(one.directory)
    # and back: what is written while it is open goes out when it is a node again
    with entgldb.open(one.directory) as db:
        assert db["c"].get("between") == {"n": 4}
        assert db["c"].put("after", {"n": 5}).origin == between.origin
        assert [found.key for found in db["c"].find({"n": {"$gte": 4}})] == ["after", "between"]
    with (
        entgldb.launch(one.directory),
        entgldb.launch(two.directory),
        entgldb.connect(two.directory) as there,
    ):
        until(lambda: there["c"].get("after") == {"n": 5})
        assert there.status("sync")["counts"].get("not-attested", 0) == 0


def test_verbs_that_read_serve_an_open_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "n1")
    with entgldb.open(home, node_id="lan-1") as db:
        db["c"].put("k", {"n": 1})
        assert run(command, ["get", "-d", home, "c", "k"]) == 0
        assert run(command, ["backup", "-d", home, str(tmp_path / "b.db")]) == 0
        assert run(command, ["verify", "-d", home, "--local"]) == 0
        assert run(command, ["why", "-d", home, "c", "k"]) == 0
        assert "lan-1" in capsys.readouterr().out
        assert run(command, ["put", "-d", home, "c", "k", "{}"]) == 4
        assert run(command, ["start", "-d", home]) == 1
        assert "is open in process" in capsys.readouterr().err
        db["c"].put("k", {"n": 2})
    assert run(command, ["backup", "--verify", str(tmp_path / "b.db")]) == 0
