"""``entgldb cluster``: up, usable as it says, gone after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import entgldb
from entgldb.launch.playground.cluster import wait_for
from entgldb.launch.playground.processes import tree


@pytest.mark.slow
def test_a_cluster_runs_until_ctrl_c(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(entgldb.__path__[0]).parent)}
    process = subprocess.Popen(
        [sys.executable, "-m", "entgldb", "cluster", tmp_path / "c", "--lan", "2", "--cloud", "1", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    pids: set[int] = set()
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        pids = tree(process.pid)
        assert [node["node_id"] for node in facts["nodes"]] == ["lan-1", "lan-2", "cloud-1"]
        one, two, cloud = (entgldb.connect(node["directory"]) for node in facts["nodes"])
        with one, two, cloud:
            one["users"].put("u1", {"name": "Ada"})
            wait_for("the other node has it", lambda: two["users"].get("u1"), 20)
            two.peers.add_cloud_peer(
                "cloud-1",
                facts["nodes"][2]["address"],
                authority=facts["authority"],
                client_id=facts["client_id"],
                client_secret=facts["client_secret"],
                ca_pem=Path(facts["ca_file"]).read_text(),
            )
            wait_for("the cloud has it", lambda: cloud["users"].get("u1"), 20)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stdout is not None
        process.stdout.close()
    assert len(pids) > 20
    wait_for("no process is left", lambda: not any(tree(pid) for pid in pids), 10)


@pytest.mark.slow
def test_a_cluster_killed_outright_leaves_no_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(entgldb.__path__[0]).parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "entgldb", "cluster", tmp_path / "c", "--lan", "1", "--cloud", "1", "--json"],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            pids = tree(process.pid)
        finally:
            process.kill()
        assert len(pids) > 14
        wait_for("no process is left", lambda: not any(tree(pid) for pid in pids), 10)
