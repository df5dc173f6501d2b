"""``start --http``: the server beside a real node is begun, begun again and ended; the node goes on."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from entgldb.launch.node.handle import Node, launch
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import Report, Status
from entgldb.messages.errors import EntglError
from entgldb.web.door.tokens import Tokens
from tests.system.support.processes import alive, all_gone, children, until

pytestmark = pytest.mark.slow
PATIENCE = 30.0


def made(folder: Path) -> Path:
    return init(Plan(folder / "n1", node_id="n1", host="127.0.0.1")).directory


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with launch(made(tmp_path_factory.mktemp("http")), http="127.0.0.1:0") as started:
        yield started


def server_pid(node: Node) -> int:
    """The process of the server: the launcher's only child beside the admin."""
    (pid,) = set(children(node.record["pid"])) - {node.record["pids"]["admin"]}
    return pid


def told(node: Node) -> dict[str, Any]:
    report = node.ask("node", Status())
    assert isinstance(report, Report)
    return report.body


def proportional_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def test_the_server_is_where_the_node_says_and_small(node: Node) -> None:
    url = node.record["http"]
    assert not url.endswith(":0")
    assert (
        httpx.put(f"{url}/v1/collections/c/documents/k", json={"n": 1}, timeout=PATIENCE).status_code == 200
    )
    until(lambda: told(node).get("http", {}).get("state") == "up", PATIENCE, "the word that it serves")
    assert told(node)["http"] == {"url": url, "state": "up", "restarts": 0}
    assert proportional_bytes(server_pid(node)) < 60 * 1024 * 1024


def test_a_killed_server_serves_again_at_its_address_and_the_node_does_not_notice(node: Node) -> None:
    url, before, gone = node.record["http"], told(node)["pids"], server_pid(node)
    os.kill(gone, signal.SIGKILL)
    all_gone([gone])
    # who connects meanwhile waits
    assert httpx.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200
    until(lambda: told(node)["http"]["restarts"] == 1, PATIENCE, "the word of the restart")
    assert told(node)["pids"] == before
    # a new node actor is told, too
    os.kill(before["node"], signal.SIGKILL)
    until(lambda: _status_or_none(node), PATIENCE, "status of the new node actor with the server in it")


def _status_or_none(node: Node) -> object:
    try:
        return told(node).get("http")
    except EntglError:
        return None


def test_the_server_ends_with_its_node_even_a_killed_one(tmp_path: Path) -> None:
    directory = made(tmp_path)
    with launch(directory, http="127.0.0.1:0") as started:
        pid, port = server_pid(started), int(started.record["http"].rpartition(":")[2])
    assert not alive(pid)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()
        with pytest.raises(EntglError, match=f"in-use: 127.0.0.1:{port} cannot be listened on by HTTP"):
            launch(directory, http=f"127.0.0.1:{port}")
    second = launch(directory, http=f"127.0.0.1:{port}")
    pid = server_pid(second)
    os.kill(second.process.pid, signal.SIGKILL)
    all_gone([pid], PATIENCE)
    second.stop()


def test_beyond_loopback_it_shows_a_certificate_of_the_cluster(tmp_path: Path) -> None:
    directory = made(tmp_path)
    with pytest.raises(EntglError, match="there is no token"):
        launch(directory, http="0.0.0.0:0")
    token = Tokens(directory).add("reader", "read", [], 0).text()
    with launch(directory, http="0.0.0.0:0") as started:
        port = started.record["http"].rpartition(":")[2]
        trust = ssl.create_default_context(cafile=str(directory / "http-ca.crt"))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=PATIENCE) as http:
            assert http.get("/v1/collections").status_code == 401
            assert (
                http.get("/v1/collections", headers={"Authorization": f"Bearer {token}"}).status_code == 200
            )
            assert http.get("/healthz", headers={"Host": "other.example"}).status_code == 400
