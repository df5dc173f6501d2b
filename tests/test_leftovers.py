"""A run of tests that leaves a process behind fails, names the test, and ends the process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leftovers
from tests.system.support.processes import all_gone

ROOT = Path(__file__).parent.parent
PLUGINS = ("-p", "tests.conftest", "-p", "no:cacheprovider")
BAD = """
import subprocess, sys

def test_bad():
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    open({pid!r}, "w").write(str(child.pid))
    child.returncode = 0  # no warning: what is to be seen is the process itself
"""
CARELESS = """
import gc, socket

def test_careless():
    gc.disable()  # nobody comes by before the test has ended
    left = [socket.socket()]
    left.append(left)
"""
CAREFUL = """
import gc

def test_careful():
    gc.collect()
"""


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_that_leaves_a_process_fails_and_ends_it(tmp_path: Path, processes: int) -> None:
    file = tmp_path / "test_bad.py"
    pid = tmp_path / "pid"
    file.write_text(BAD.format(pid=str(pid)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGINS, "-n", str(processes), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1, done.stdout + done.stderr
    assert "left running: " in done.stdout + done.stderr
    assert "test_bad.py::test_bad" in done.stdout + done.stderr
    all_gone([int(pid.read_text())])


def test_a_socket_that_is_left_open_in_a_cycle_fails_its_own_module(tmp_path: Path) -> None:
    files = [tmp_path / "test_one.py", tmp_path / "test_two.py"]
    for file, text in zip(files, (CARELESS, CAREFUL), strict=True):
        file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-W", "error", *PLUGINS, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    assert re.search(r"^ERROR .*test_one.py::test_careless", done.stdout, re.M), done.stdout
    assert re.search(r"^PASSED .*test_two.py::test_careful", done.stdout, re.M), done.stdout


def test_what_this_run_has_started_is_known_by_its_mark() -> None:
    assert os.environ[leftovers.MARK].startswith(f"{os.getpid()}-")
    waits = [sys.executable, "-c", "print('runs', flush=True); input()"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        # the kernel shows the environment of a program a moment after it has begun
        assert child.stdout.readline() == b"runs\n"
        assert "test_what_this_run_has_started" in leftovers.left()[child.pid]
        child.communicate(b"\n")
    assert child.pid not in leftovers.left()
