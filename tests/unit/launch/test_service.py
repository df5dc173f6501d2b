"""The unit of systemd, and what systemd is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.node import service
from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.launcher import Launcher
from entgldb.launch.node.notify import Supervisor
from entgldb.messages.errors import EntglError
from entgldb.messages.local.actors import Well
from tests.unit.actors.node.node_rig import Rig

EXPOSURE_MAX = 30
"""Of 100, as systemd-analyze counts: 3.0."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return init(Plan(tmp_path / "n1", node_id="lan-1", host="127.0.0.1")).directory


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Units go here; the directory belongs to somebody who is not root; no systemd runs."""
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setattr("entgldb.launch.cli.node.service._RUNS", tmp_path / "none")
    return tmp_path / "units"


def owned(directory: Path, monkeypatch: pytest.MonkeyPatch, uid: int = 12345) -> Path:
    real = Path.stat
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **how: SimpleNamespace(st_uid=uid) if path == directory else real(path, **how),
    )
    return directory


def test_the_unit_is_written_and_removed_and_no_other(
    directory: Path, units: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owned(directory, monkeypatch)
    words = ["-d", str(directory)]
    assert run(entgldb, ["service", "install", *words]) == 0
    assert "systemctl enable --now entgldb-lan-1.service" in capsys.readouterr().out
    file = units / "entgldb-lan-1.service"
    text = file.read_text()
    assert run(entgldb, ["service", "show", *words]) == 0
    assert capsys.readouterr().out == text
    assert "User=12345\n" in text
    assert f'ReadWritePaths="{directory}"\n' in text
    assert run(entgldb, ["service", "install", *words]) == 0
    file.write_text(text.replace(str(directory), "/elsewhere"))
    for verb in ("install", "uninstall"):
        capsys.readouterr()
        assert run(entgldb, ["service", verb, *words]) == 1
        assert capsys.readouterr().err.startswith(f"in-use: {file} is not the unit of this node.")
    file.write_text(text)
    assert run(entgldb, ["service", "uninstall", *words]) == 0
    assert not file.exists()
    assert directory.exists()


@pytest.mark.parametrize("of_user", [True, False])
def test_no_node_runs_as_root(directory: Path, monkeypatch: pytest.MonkeyPatch, of_user: bool) -> None:
    owned(directory, monkeypatch, uid=0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EntglError, match="does not run as root"):
        service.plan(directory, "lan-1", of_user=of_user)


def test_a_path_is_one_word_for_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / 'a "b" 100% $HOME \\c'
    odd.mkdir()
    text = service.plan(owned(odd, monkeypatch), "lan-1", of_user=False).text
    assert f'"{tmp_path}/a \\"b\\" 100%% $$HOME \\\\c"' in text


def test_the_unit_is_confined(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = service.plan(owned(directory, monkeypatch), "lan-1", of_user=False)
    assert "WatchdogSec=" in planned.text
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here: the unit's exposure was not looked at")
    file = tmp_path / planned.name
    file.write_text(planned.text)
    judged = subprocess.run(
        [program, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
    verified = subprocess.run(
        [program, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False
    )
    assert planned.name not in verified.stderr


@pytest.mark.parametrize("abstract", [True, False])
def test_the_supervisor_hears_by_either_kind_of_socket(tmp_path: Path, abstract: bool) -> None:
    name = f"@entgldb-{os.getpid()}" if abstract else str(tmp_path / "notify")
    environ = {"NOTIFY_SOCKET": name}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name[1:] if abstract else name)
        supervisor = Supervisor(environ)
        assert environ == {}
        supervisor.ready("lan-1 serves")
        assert heard.recv(1000) == b"READY=1\nSTATUS=lan-1 serves"
        supervisor.reloading()
        assert heard.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    supervisor.well()  # it is gone; nobody waits for it


def test_the_watchdog_is_fed_while_all_serve() -> None:
    rig = Rig().all_ready()
    rig.run(21.0)
    assert rig.take(Well, "launcher") == [Well(), Well()]
    rig.killed.clear()
    rig.kill("store")
    rig.run(30.0)
    assert rig.take(Well, "launcher") == []
    rig.ready("store")
    rig.run(10.0)
    assert rig.take(Well, "launcher") == [Well()]


def test_the_launcher_hands_the_word_on(tmp_path: Path) -> None:
    launcher = Launcher.__new__(Launcher)
    launcher._stopped, launcher._signals = False, SimpleNamespace(reload=False)  # type: ignore[assignment]  # all that is asked of it
    launcher._pipe, told = os.pipe2(os.O_NONBLOCK)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "s"))
        launcher._supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "s")})
        os.write(told, b"W")
        assert not launcher._heard_stopped()
        assert heard.recv(100) == b"WATCHDOG=1"
        os.write(told, b"S")
        assert launcher._heard_stopped()
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard.recv(100)
    os.close(told)
    os.close(launcher._pipe)
