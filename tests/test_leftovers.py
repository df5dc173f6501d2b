"""A run of tests that leaves a process behind fails, names the test, and ends the process."""

from __future__ import annotations

import os
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
