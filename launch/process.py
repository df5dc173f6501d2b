"""A node as a process of its own: start it detached, stop it, see whether it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, NoAnswerError, NoNodeError

START_SECONDS: Final = 30.0
"""A node that is not ready by then is given up."""
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
LOCK_NAME: Final = "entgldb.lock"
FACTS_NAME: Final = "node.json"


def is_running(directory: Path) -> bool:
    """Whether any process of a node holds the directory: its lock lives until the last one dies."""
    try:
        with (directory / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_facts(directory: Path) -> dict[str, Any]:
    """``node.json``: pid and ports of the node that is ready; empty when there is none."""
    try:
        facts = json.loads((directory / FACTS_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def start_detached(directory: Path, config: Path | None = None) -> dict[str, Any]:
    """Start a node and return its facts once it is ready.

    Raises EntglError ``in-use`` when one runs there, ConfigError with what the node said when it gives up.
    """
    if is_running(directory):
        raise EntglError(
            f"a node is running in {directory}", code=ErrorCode.IN_USE, hint=f"entgldb stop --dir {directory}"
        )
    command = [sys.executable, "-m", "entgldb", "start", "--dir", str(directory)]
    command += [] if config is None else ["--config", str(config)]
    log = directory / "log"
    try:
        log.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        raise ConfigError(f"no directory {directory}", hint=f"entgldb init --dir {directory}") from None
    (directory / FACTS_NAME).unlink(missing_ok=True)
    said = log / "start.log"
    with open(said, "wb", opener=_private) as output:
        process = subprocess.Popen(  # noqa: S603 -- this very program
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    return _until_ready(directory, process, said)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _until_ready(directory: Path, process: subprocess.Popen[bytes], said: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll()
        facts = read_facts(directory)
        if facts and ended is None:
            # not ours to wait for: it outlives this process
            process.returncode = 0
            return facts
        if ended is not None:
            text = said.read_text(errors="replace").strip()
            raise EntglError(text or f"the node ended with code {ended}", code=ErrorCode.CONFIG)
        time.sleep(POLL_SECONDS)
    process.terminate()
    raise NoAnswerError(
        f"the node in {directory} is not ready after {START_SECONDS:.0f} s; see {said}", definite=False
    )


def stop_node(directory: Path) -> float:
    """Stop the node in ``directory`` and wait until its last process is gone; the seconds it took.

    Raises NoNodeError when none runs there, NoAnswerError when it does not end.
    """
    facts = read_facts(directory)
    if not is_running(directory) or "pid" not in facts:
        raise NoNodeError(f"no node is running in {directory}", hint=f"entgldb start --dir {directory}")
    begun = time.monotonic()
    # a launcher that is gone leaves children that end by themselves
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(facts["pid"]), signal.SIGTERM)
    while time.monotonic() - begun < STOP_SECONDS:
        if not is_running(directory):
            return time.monotonic() - begun
        time.sleep(POLL_SECONDS)
    raise NoAnswerError(f"the node in {directory} has not ended after {STOP_SECONDS:.0f} s", definite=False)
