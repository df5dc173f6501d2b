"""Actors, admin and launcher of a real node are killed; some processes must come back, the others must go."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.launch.node.files import running
from entgldb.launch.node.handle import Node, ask, launch
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import Done, Ping, Refused, Reload, Report, Status, Stop
from entgldb.messages.errors import EntglError, NoAnswerError, NoNodeError
from tests.system.support.frozen_disk import frozen, small_disk
from tests.system.support.processes import alive, all_gone, children, tree, until

pytestmark = pytest.mark.slow
CHILDREN = ["store", "oplog", "sync", "election", "gateway"]
PATIENCE = 30.0
"""Seconds that a busy machine may take; how fast it goes on a quiet one is for ``entgldb bench`` to say."""


def made(folder: Path) -> Path:
    return init(Plan(folder / "n1", node_id="n1", host="127.0.0.1")).directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """For tests after which the same node serves on."""
    with launch(made(tmp_path_factory.mktemp("shared"))) as started:
        yield started


@pytest.fixture
def node(directory: Path) -> Iterator[Node]:
    with launch(directory) as started:
        yield started


def pids(node: Node) -> dict[str, int]:
    report = node.ask("node", Status())
    assert isinstance(report, Report)
    return dict(report.body["pids"])


def alarms(node: Node) -> set[str]:
    """The codes of all alarms."""
    report = node.ask("node", Status())
    assert isinstance(report, Report)
    return {str(alarm["code"]) for alarm in report.body["alarms"]}


def serves(node: Node, actor: str) -> bool:
    """Whether the actor itself answers."""
    try:
        return isinstance(node.ask(actor, Status(), 0.5), Report)
    except EntglError:
        return False


@pytest.mark.parametrize("actor", [*CHILDREN, "node"])
def test_a_killed_actor_serves_again(shared: Node, actor: str) -> None:
    before = pids(shared)[actor]
    os.kill(before, signal.SIGKILL)
    all_gone([before])
    until(lambda: serves(shared, actor), PATIENCE, f"{actor} serving again")
    after = until(lambda: pids(shared) if set(pids(shared)) == {*CHILDREN, "node"} else None, PATIENCE, "all")
    assert after[actor] != before


def test_only_the_killed_actor_is_started_again(shared: Node) -> None:
    before = pids(shared)
    os.kill(before["sync"], signal.SIGKILL)
    until(lambda: pids(shared).get("sync") not in (None, before["sync"]), PATIENCE, "a new sync")
    after = pids(shared)
    assert {name for name in before if before[name] != after[name]} == {"sync"}


def test_actors_that_are_stopped_are_ended_and_serve_again(node: Node) -> None:
    before = pids(node)
    victims = ["store", "sync", "gateway"]
    for actor in victims:
        os.kill(before[actor], signal.SIGSTOP)
    all_gone([before[actor] for actor in victims], PATIENCE)
    for actor in victims:
        until(lambda actor=actor: serves(node, actor), PATIENCE, f"{actor} serving again")  # type: ignore[misc]  # mypy knows no type of a lambda's default
    report = node.ask("node", Status())
    assert isinstance(report, Report)
    assert {name for name, times in report.body["restarts"].items() if times} == set(victims)
    assert report.body["counts"]["hung"] == len(victims)


def test_a_node_actor_that_is_stopped_is_ended_and_serves_again_with_all_others(node: Node) -> None:
    before = pids(node)
    os.kill(before["node"], signal.SIGSTOP)
    all_gone(list(before.values()), PATIENCE)
    until(lambda: serves(node, "store"), PATIENCE, "the node serving again")
    assert "node is stopped and has not moved" in (node.directory / "log" / "entgldb.log").read_text()


def put_late(db: Database) -> None:
    """A write whose client gives up before it is done."""
    with suppress(NoAnswerError):
        db["c"].put("late", {"n": 1})


def test_a_store_that_waits_for_its_disk_is_told_of_and_not_ended(directory: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        (directory / "entgldb.db").symlink_to(disk / "entgldb.db")
        with launch(directory) as node, entgldb.connect(directory) as db:
            store = pids(node)["store"]
            late = threading.Thread(target=put_late, args=(db,), daemon=True)
            with frozen(disk, 12.0):
                late.start()
                until(lambda: "held-up" in alarms(node), 11.0, "word that the store waits")
            until(lambda: db["c"].get("late") == {"n": 1}, 20.0, "the write that has waited")
            late.join(20.0)
            until(lambda: "held-up" not in alarms(node), 10.0, "word that it goes on")
            assert pids(node)["store"] == store


@pytest.mark.parametrize("victim", ["launcher", "admin"])
def test_nothing_is_left_when_the_roots_are_killed(node: Node, directory: Path, victim: str) -> None:
    record = node.record
    everything = tree(record["pid"])
    assert len(everything) >= 8  # launcher, admin, six actors
    os.kill(record["pid"] if victim == "launcher" else record["pids"]["admin"], signal.SIGKILL)
    node.process.wait(PATIENCE)
    all_gone(everything)
    # the threads of a dead process may close its files a moment after it became a zombie
    until(lambda: not running(directory), PATIENCE, "the release of the lock")
    with launch(directory) as again:
        assert again.ask("store", Ping()) == Done()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_and_leaves_nothing(
    node: Node, directory: Path, number: signal.Signals
) -> None:
    everything = tree(node.process.pid)
    node.process.send_signal(number)
    assert node.process.wait(PATIENCE) == 0
    assert [pid for pid in everything if alive(pid)] == []
    left = {path.name for path in directory.iterdir()}
    assert not left & {"node.json", "entgldb.sock"}


def test_stop_by_message_ends_the_launcher(node: Node) -> None:
    everything = tree(node.process.pid)
    assert node.ask("node", Stop()) == Done()
    assert node.process.wait(PATIENCE) == 0
    assert [pid for pid in everything if alive(pid)] == []


def test_a_hanging_actor_does_not_hold_up_a_stop(node: Node) -> None:
    everything = tree(node.process.pid)
    os.kill(pids(node)["sync"], signal.SIGSTOP)
    node.process.terminate()
    assert node.process.wait(PATIENCE) == 0
    assert [pid for pid in everything if alive(pid)] == []


def test_a_second_start_on_the_same_directory_is_refused(node: Node, directory: Path) -> None:
    home = str(Path(str(entgldb.__file__)).parent.parent)
    second = subprocess.run(
        [sys.executable, "-m", "entgldb", "start", "-d", str(directory)],
        capture_output=True,
        text=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": home},
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"in-use: a node is already running in {directory}")
    assert node.ask("store", Ping()) == Done()


def test_attaching_where_nothing_runs_starts_nothing(directory: Path) -> None:
    with pytest.raises(NoNodeError, match="no node is running in"):
        ask(directory, "node", Ping())
    with launch(directory):
        pass
    with pytest.raises(NoNodeError, match="no node is running in"):
        ask(directory, "node", Ping())
    assert not running(directory)


def test_what_keeps_a_node_from_starting_is_said(directory: Path) -> None:
    (directory / "cluster.key").write_bytes(b"short")
    with pytest.raises(EntglError, match=r"cluster\.key"):
        launch(directory)
    assert not running(directory)


def test_a_tls_port_that_is_taken_is_said_at_the_start(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = directory / "entgldb.toml"
        text = re.sub(r'listen = "[^"]*"', f'listen = "127.0.0.1:{taken.getsockname()[1]}"', file.read_text())
        assert text != file.read_text()
        file.write_text(text)
        with pytest.raises(EntglError, match=str(taken.getsockname()[1])):
            launch(directory)
    assert not running(directory)


def test_the_admin_has_no_process_but_that_of_the_node_actor(node: Node) -> None:
    """Thespian would have one more, for a log that each of our processes writes by itself."""
    assert children(node.record["pids"]["admin"]) == [pids(node)["node"]]


def test_reload_brings_what_changed_in_the_file_and_names_what_is_wrong_with_it(
    shared: Node,
) -> None:
    node, file = shared, shared.directory / "entgldb.toml"
    good = file.read_text()
    before = pids(node)
    file.write_text(good.replace("discovery = false", "discovery = true") + "\n[election]\npriority = 7\n")
    told = {"changed": ["election.priority"], "restart_needed": ["network.discovery"]}
    assert node.ask("node", Reload()) == Report(told)
    assert node.ask("election", Status()).body["priority"] == 7
    file.write_text(good + '\n[election]\npriority = "high"\n')
    refused = node.ask("node", Reload())
    assert isinstance(refused, Refused)
    assert refused.code == "config"
    assert "priority" in refused.text
    assert pids(node) == before
