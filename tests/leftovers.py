"""Processes that tests have started and left running: the last thing a run looks at."""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path
from typing import Final

MARK: Final = "TESTS_OF_RUN"
"""Environment variable that every process started by a test inherits."""
TEST: Final = "PYTEST_CURRENT_TEST"
"""Set by pytest itself: whose test a process was started by."""
PATIENCE_SECONDS: Final = 5.0
"""For those that are about to end."""
POLL_SECONDS: Final = 0.05
OWN: Final = "multiprocessing.resource_tracker"
"""A helper of the standard library that ends with this process."""


def mark() -> None:
    """From now on whatever is started can be told from all other processes."""
    os.environ[MARK] = f"{os.getpid()}-{uuid.uuid4().hex}"


def left() -> dict[int, str]:
    """Pid -> what it is and which test has started it."""
    wanted = f"{MARK}={os.environ.get(MARK)}"
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            environment = _read(folder / "environ").rstrip("\0").split("\0")
            command = _read(folder / "cmdline").replace("\0", " ").strip()
            if wanted in environment and command and OWN not in command:
                test = next((line for line in environment if line.startswith(f"{TEST}=")), TEST)
                found[int(folder.name)] = f"{command} ({test.removeprefix(f'{TEST}=')})"
    return found


def ended() -> list[str]:
    """Wait a while for those that are ending, kill the rest; what was killed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (still := left()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for pid in still:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return sorted(still.values())


def _read(file: Path) -> str:
    """Empty for a process that is gone, a zombie, or somebody else's."""
    try:
        return file.read_bytes().decode(errors="replace")
    except OSError:
        return ""
