"""The launcher: before the first fork, without a node actor in time, and after a reload."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entgldb.actors.host import system as host_system
from entgldb.actors.host.system import NodeSystem
from entgldb.launch.node.launcher import Launcher, _make_database
from entgldb.launch.node.notify import Supervisor
from entgldb.messages.errors import NoAnswerError
from entgldb.messages.local.actors import Boot
from entgldb.messages.settings import HttpSettings
from tests.unit.actors.node.test_reloading import RUNNING


def test_a_node_that_cannot_be_created_is_tried_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    def boot(settings: object) -> None:
        raise NoAnswerError("the actor system starts no node actor")

    (tmp_path / "log").mkdir()
    silent, _keep = os.pipe()
    gone = os.fork()
    if not gone:
        os._exit(0)
    launcher = Launcher.__new__(Launcher)
    launcher.directory, launcher._settings = tmp_path, None  # type: ignore[assignment]  # boot is ours
    launcher._signals = SimpleNamespace(fd=silent, stop=False)  # type: ignore[assignment]  # no signals here
    launcher._system = SimpleNamespace(boot=boot)  # type: ignore[assignment]  # all that is asked of it
    launcher._admin_fd, launcher._node_fd = silent, os.pidfd_open(gone)
    os.waitpid(gone, 0)
    launcher._booted_at, launcher._deaths = 1.0, 0
    launcher._supervisor = Supervisor({})
    for times in range(3):
        launcher._revive()
        assert launcher._deaths == times
    assert "tried again" in (tmp_path / "log" / "entgldb.log").read_text()
    for fd in (silent, _keep, launcher._node_fd):
        os.close(fd)


def test_a_node_actor_that_came_too_late_is_the_node_at_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    children = {5}
    monkeypatch.setattr(host_system, "CREATE_SECONDS_MAX", 0.0)
    monkeypatch.setattr(host_system, "child_pids", lambda pid: set(children))
    monkeypatch.setattr(host_system.host_wire, "port_of", lambda address: 4)
    monkeypatch.setattr(host_system.host_wire, "listeners", lambda pid: {("127.0.0.1", 4)})
    told: list[Any] = []
    system = NodeSystem.__new__(NodeSystem)
    system._system = SimpleNamespace(createActor=lambda *_, **__: "node")
    system._before, system.admin_pid = None, 1
    monkeypatch.setattr(NodeSystem, "tell", lambda self, message: told.append(message))
    with pytest.raises(NoAnswerError):
        system.boot(None)  # type: ignore[arg-type]  # goes on as it is
    children.add(7)
    system.boot(None)  # type: ignore[arg-type]  # goes on as it is
    assert system.node_pid == 7
    assert [type(message) for message in told] == [Boot]


def test_a_node_actor_that_is_started_anew_after_a_reload_opens_no_other_door() -> None:
    """What waits for a restart of the node waits, though its file was read again and an actor dies."""
    told: list[Any] = []
    read = replace(
        RUNNING,
        sync=replace(RUNNING.sync, listen="0.0.0.0:7700", seeds=("b:7700",), discovery=False),
        http=HttpSettings("0.0.0.0:8080"),
    )
    launcher = Launcher.__new__(Launcher)
    launcher._settings, launcher._load = RUNNING, lambda: read
    launcher._signals = SimpleNamespace(reload=True)  # type: ignore[assignment]  # all that is asked of it
    launcher._system = SimpleNamespace(tell=told.append, poll=lambda _: None)  # type: ignore[assignment]  # as above
    launcher._supervisor = Supervisor({})
    launcher._reload()
    assert told == [Boot(read)]
    assert launcher._settings == replace(RUNNING, sync=replace(RUNNING.sync, seeds=("b:7700",)))


def test_the_tables_of_a_new_node_are_made_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from entgldb.launch.node import launcher;"
        f"directory = Path({str(tmp_path)!r}); launcher._make_database(directory);"
        "launcher.open_file(directory).execute('SELECT count(*) FROM _entgldb_documents');"
        "print('sqlite_utils' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_a_database_that_cannot_be_made_is_left_to_the_store_actor(tmp_path: Path) -> None:
    _make_database(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
