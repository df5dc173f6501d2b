"""A node as a process of its own: start it detached, stop it, see whether it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from entgldb.launch.node.child import environment
from entgldb.launch.node.files import in_use, read_record, remove_record, running, wait_stopped
from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, NoAnswerError, NoNodeError

START_SECONDS: Final = 60.0
"""A node that is not ready by then is given up: one of a fresh installation compiles all its modules."""
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02


def start_detached(directory: Path, config: Path | None = None, http: str | None = None) -> dict[str, Any]:
    """Start a node and return its facts once it is ready; ``http``: where it serves HTTP, too.

    Raises EntglError ``in-use`` when one runs there, ConfigError with what the node said when it gives up.
    """
    if running(directory):
        raise in_use(directory)
    command = [sys.executable, "-m", "entgldb", "start", "--dir", str(directory)]
    command += [] if config is None else ["--config", str(config)]
    command += [] if http is None else ["--http", http]
    log = directory / "log"
    try:
        log.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        raise ConfigError(f"no directory {directory}", hint=f"entgldb init --dir {directory}") from None
    remove_record(directory)
    said = log / "start.log"
    with open(said, "wb", opener=_private) as output:
        process = subprocess.Popen(  # noqa: S603 -- this very program
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
        )
    return _until_ready(directory, process, said)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _until_ready(directory: Path, process: subprocess.Popen[bytes], said: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll()
        with contextlib.suppress(NoNodeError):
            facts = read_record(directory)
            if facts["pid"] == process.pid and ended is None:
                # not ours to wait for: it outlives this process
                process.returncode = 0
                return facts
        if ended is not None:
            raise _gave_up(said.read_text(errors="replace"), ended)
        time.sleep(POLL_SECONDS)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    raise NoAnswerError(
        f"the node in {directory} is not ready after {START_SECONDS:.0f} s; see {said}", definite=False
    )


def stop_node(directory: Path) -> float:
    """Stop the node in ``directory`` and wait until its last process is gone; the seconds it took.

    Raises NoNodeError when none runs there, NoAnswerError when it does not end.
    """
    pid = int(read_record(directory)["pid"])
    begun = time.monotonic()
    # a launcher that is gone leaves children that end by themselves
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if wait_stopped(directory, STOP_SECONDS):
        return time.monotonic() - begun
    raise NoAnswerError(f"the node in {directory} has not ended after {STOP_SECONDS:.0f} s", definite=False)


def _gave_up(said: str, code: int) -> EntglError:
    """The error that a node wrote before it ended."""
    lines = said.strip().splitlines() or [f"the node ended with code {code}"]
    for number, line in enumerate(lines):
        word, _, text = line.partition(": ")
        if word in set(ErrorCode):
            # the faults of a configuration are one to a line
            sentence, _, hint = "\n".join([text, *lines[number + 1 :]]).partition(" Try: ")
            return EntglError(sentence, code=ErrorCode(word), hint=hint)
    return EntglError(lines[-1], code=ErrorCode.INTERNAL)
