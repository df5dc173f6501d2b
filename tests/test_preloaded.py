"""A child that is forked from a process that has loaded all is as one that is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.preloaded import FILLER, PROGRAM, ROOM, preloaded
from tests.system.support.kernel_view import eventually
from tests.system.support.processes import alive, children

WAITS = [*PROGRAM, "dev-authority", "--json"]
SHORT = (["version"], ["no-such-verb"], ["version", "--no-such-option"], ["put", "-d", "none", "c", "k", "-"])
MAKES_A_CHILD = f"""
import subprocess
from tests.support.preloaded import killed_with_parent, preloaded
with preloaded():
    child = subprocess.Popen({WAITS}, preexec_fn=killed_with_parent)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture(scope="module")
def starts() -> None:
    """Nothing is forked but where a test says so."""


def is_forked(pid: int) -> bool:
    """Its environment fills only a part of what is there for it."""
    return Path(f"/proc/{pid}/environ").read_bytes().endswith(b"\0\0")


def seen(folder: Path, forked: bool) -> dict[str, Any]:
    """A process that waits, as the kernel and its parent see it, and how it ends."""
    environment = {**os.environ, "SAID": "to the child"}
    process = subprocess.Popen(
        WAITS,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert is_forked(process.pid) == forked
            place = Path("/proc") / str(process.pid)
            variables = (place / "environ").read_bytes().rstrip(b"\0").split(b"\0")
            found = {
                "said": sorted(said),
                "parent": os.getpid() == int((place / "stat").read_text().rpartition(")")[2].split()[1]),
                "command": (place / "cmdline").read_bytes().rstrip(b"\0"),
                "environment": sorted(variables)
                == sorted(os.fsencode("=".join(p)) for p in environment.items()),
                "folder": os.readlink(place / "cwd"),
                "leads a session": os.getsid(process.pid) == process.pid,
                "streams": sorted(os.readlink(place / "fd" / str(n)).split(":")[0] for n in range(3)),
            }
        finally:
            process.terminate()
        return {**found, "ends": process.wait()}


def test_what_waits_is_the_same(tmp_path: Path) -> None:
    started = seen(tmp_path, False)
    with preloaded():
        assert seen(tmp_path, True) == started
    assert started["parent"]
    assert started["environment"]
    assert started["leads a session"]


@pytest.mark.parametrize("words", SHORT, ids=" ".join)
def test_what_is_said_and_how_it_ends_is_the_same(words: list[str], tmp_path: Path) -> None:
    def told() -> tuple[int, str, str]:
        done = subprocess.run([*PROGRAM, *words], input="{}", capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    started = told()
    with preloaded():
        assert told() == started


def test_one_whose_parent_is_killed_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", MAKES_A_CHILD], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert is_forked(child)
        finally:
            parent.kill()
    eventually(lambda: not alive(child), "the child is killed")


@pytest.mark.parametrize(
    "wishes",
    [
        {"env": {**os.environ, "PYTHONUTF8": "1"}},
        {"env": {**os.environ, FILLER: "." * ROOM}},
        {"umask": 0o77},
        {"pass_fds": (0,)},
        {"preexec_fn": lambda: None},
    ],
    ids=lambda wishes: next(iter(wishes)),
)
def test_one_with_wishes_of_its_own_is_started(wishes: dict[str, Any]) -> None:
    with preloaded(), subprocess.Popen(WAITS, stdout=subprocess.PIPE, **wishes) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert not is_forked(child.pid)
        finally:
            child.terminate()


def test_one_for_whom_python_runs_something_at_its_start_is_started(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    test_one_with_wishes_of_its_own_is_started({"env": {**os.environ, "PYTHONPATH": path}})


def test_what_starts_nodes_is_their_parent(tmp_path: Path) -> None:
    command = [*PROGRAM, "cluster", str(tmp_path / "c"), "--lan", "1", "--cloud", "0", "--json"]
    with preloaded(), subprocess.Popen(command, stdout=subprocess.PIPE) as starter:
        try:
            assert starter.stdout is not None
            starter.stdout.readline()
            nodes = [
                pid for pid in children(starter.pid) if b"start" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            assert len(nodes) == 1
            assert is_forked(nodes[0])
        finally:
            starter.terminate()
    assert not any(map(alive, nodes))
