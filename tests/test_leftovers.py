"""A run of tests that leaves a process behind fails, names the test, and ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import leftovers
from tests.system.support.processes import all_gone

ROOT = Path(__file__).parent.parent
BAD = """
import subprocess, sys

def test_bad(capfd):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    print("PID", child.pid)
    with capfd.disabled():
        print("PID", child.pid)
    child.returncode = 0  # no warning: what is to be seen is the process itself
"""


def test_a_run_that_leaves_a_process_fails_and_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "test_bad.py"
    file.write_text(BAD)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(file)],
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
    pid = int(done.stdout.partition("PID ")[2].split()[0])
    all_gone([pid])


def test_what_this_run_has_started_is_known_by_its_mark() -> None:
    assert os.environ[leftovers.MARK].startswith(f"{os.getpid()}-")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert "test_what_this_run_has_started" in leftovers.left()[child.pid]
        child.communicate(b"\n")
    assert child.pid not in leftovers.left()
