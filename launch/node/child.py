"""Children of this process that run the same code."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

from entgldb import _version


def environment() -> dict[str, str]:
    """For a child that shall run the code that runs here, installed or not."""
    home = str(Path(_version.__file__).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """A ``preexec_fn``: the child is sent SIGTERM when the thread that started it ends, however it does.

    Only for programs whose main thread starts the child (prctl(2), PR_SET_PDEATHSIG).
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask a child to end; after so many seconds kill it."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
