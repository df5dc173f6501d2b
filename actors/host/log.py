"""One log file per node, appended to by all its processes, a line at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

LOG_BYTES_MAX = 4 * 1024 * 1024
"""A log file of this size is renamed to ``.1`` and a new one begun."""


class LogFile(logging.Handler):
    """Appends whole lines with one write each, so that processes do not tear each other's lines."""

    def __init__(self, path: Path, who: str) -> None:
        super().__init__()
        self.path = path
        self.who = who
        self._fd = -1

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of the standard library's logging."""
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            self.line(record.levelno, f"{record.name}: {text}")
        except Exception:  # noqa: BLE001 -- a log that cannot be written must not stop the node
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the standard library's name
        """A full disk silences the log, it does not fill stderr."""

    def line(self, level: int, text: str) -> None:
        """One entry; a text of several lines is indented below it."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        body = text.rstrip().replace("\n", "\n    ")
        data = f"{stamp} {os.getpid():>7} {self.who:<8} {logging.getLevelName(level):<7} {body}\n"
        try:
            self._rotate()
            os.write(self._fd, data.encode(errors="replace"))
        except OSError:
            return

    def _rotate(self) -> None:
        """Follow a file that another process renamed; rename it ourselves when it is full."""
        self._open()
        if os.fstat(self._fd).st_size < LOG_BYTES_MAX:
            return
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if self._current():
                self.path.rename(self.path.with_suffix(self.path.suffix + ".1"))
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._open()

    def _open(self) -> None:
        if self._fd >= 0 and not self._current():
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _current(self) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False


_ROOT, _MANAGER = logging.root, logging.Logger.manager


def use_log(log: LogFile) -> None:
    """Thespian sends records to a process of its own, from any thread; ours go straight to the file."""
    logging.root = logging.Logger.root = _ROOT
    logging.Logger.manager = _MANAGER
    _ROOT.handlers[:] = [log]
    _ROOT.setLevel(logging.WARNING)
